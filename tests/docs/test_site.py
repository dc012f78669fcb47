"""The documentation site: it builds, its links lead somewhere, and it names what is there."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from .checks import DOCS, ROOT, broken_links, external_resources, pages, resolves, wrong_names

NEEDED = ("mkdocs", "material", "mkdocstrings_handlers", "latex2mathml")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
with_mkdocs = pytest.mark.skipif(
    bool(MISSING), reason=f"{', '.join(MISSING)}: not installed; pip install certes[docs]"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    built = build(ROOT / "mkdocs.yml", folder)
    assert built.returncode == 0, built.stderr
    return folder


def build(config: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(
        [*command, "-d", str(out)], capture_output=True, text=True, env=environment
    )


def hook(name: str) -> ModuleType:
    """A module of docs/hooks, which is no package."""
    return module_at(DOCS / "hooks" / f"{name}.py")


def module_at(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    yield ROOT / "benchmarks"
    sys.modules.pop("scaling", None)


# What pages name.


@pytest.mark.parametrize("page", pages(), ids=lambda path: str(path.relative_to(DOCS)))
def test_what_a_page_names_is_there(page: Path) -> None:
    assert wrong_names(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "span",
    [
        "src/certes/diffusion/nowhere.py",
        "src/certes/diffusion/process.py::Nothing",
        "tests/nowhere/test_nothing.py",
        "benchmarks/nothing.py",
        "certes.diffusion.nowhere",
        "certes.diffusion.process.nothing",
        "certes.diffusion.process.Process.nothing",
        "certes.restoree(y, H)",
        "certes.operators.Nothing",
    ],
)
def test_a_page_that_names_what_is_not_there_is_refused(span: str) -> None:
    assert wrong_names(f"As `{span}` has it.") == [span]
    assert wrong_names(f"As in\n\n```sh\n{span}\n```\n\nso here") == []  # blocks are run elsewhere


def test_names_are_found_where_users_see_them_and_where_they_live() -> None:
    for name in (
        "certes.restore",
        "certes.operators.Blur",
        "certes.Posterior.bounds",
        "certes.diffusion.process.Process.marginal",
        "certes.networks.heads.HEADS",
        "certes.restoration.samplers",
    ):
        assert resolves(name), name


# The built site.


@with_mkdocs
def test_no_link_and_no_anchor_leads_nowhere(site: Path) -> None:
    assert len(list(site.rglob("*.html"))) > 40
    assert broken_links(site) == []


@with_mkdocs
def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    assert external_resources(site) == []


@with_mkdocs
def test_all_formulas_are_mathml(site: Path) -> None:
    theory = [path.read_text(encoding="utf-8") for path in (site / "theory").glob("*.html")]
    assert all("arithmatex" not in page for page in theory)
    assert sum(page.count("<math") for page in theory) > 200


@with_mkdocs
def test_sources_are_read_and_not_imported(site: Path) -> None:
    page = (site / "api" / "certes.html").read_text(encoding="utf-8")
    assert 'id="certes.restore"' in page or 'id="certes.public.restore"' in page
    assert ":math:" not in page
    assert ":class:" not in page


@with_mkdocs
@pytest.mark.parametrize(
    "text", ["[away](nowhere.md)", "[away](index.md#nowhere)", r"$\nonsense{x}$"]
)
def test_a_page_with_a_wrong_link_or_formula_does_not_build(text: str, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# Title\n\n{text}\n")
    config = tmp_path / "mkdocs.yml"
    config.write_text(
        "site_name: x\n"
        f"hooks: [{DOCS / 'hooks' / 'mathematics.py'}]\n"
        "markdown_extensions: [{pymdownx.arithmatex: {generic: true}}]\n"
        "validation: {links: {anchors: warn}}\n"
    )
    assert build(config, tmp_path / "site").returncode != 0
    (tmp_path / "docs" / "index.md").write_text("# Title\n\n[here](#title) $x^2$\n")
    assert build(config, tmp_path / "site").returncode == 0


def test_the_checks_of_a_built_site_find_what_is_wrong(tmp_path: Path) -> None:
    def page(body: str) -> None:
        (tmp_path / "index.html").write_text(f"<html><body><h1 id='top'>x</h1>{body}</body></html>")

    page("<a href='#top'>x</a> <a href='https://example.org/'>y</a> <img src='a.png'>")
    (tmp_path / "a.png").write_bytes(b"")
    assert broken_links(tmp_path) == []
    assert external_resources(tmp_path) == []
    for body in ("<a href='#nowhere'>x</a>", "<a href='no.html'>x</a>", "<img src='no.png'>"):
        page(body)
        assert len(broken_links(tmp_path)) == 1, body
    for body in (
        "<script src='https://example.org/x.js'></script>",
        "<link rel='stylesheet' href='//example.org/x.css'>",
        "<img src='http://example.org/x.png'>",
        "<p style='background: url(https://example.org/x.png)'>",
    ):
        page(body)
        assert len(external_resources(tmp_path)) == 1, body
    page("")
    (tmp_path / "x.css").write_text("@font-face { src: url('https://example.org/x.woff2') }")
    assert len(external_resources(tmp_path)) == 1


# The hooks.


@with_mkdocs
def test_formulas_become_mathml_and_unknown_ones_are_told() -> None:
    mathematics, said = hook("mathematics"), []
    good = mathematics.with_mathml(r'<span class="arithmatex">\(\sigma_t^2 &lt; 1\)</span>')
    assert good.startswith("<math")
    assert "arithmatex" not in good
    bad = r'<div class="arithmatex">\[\nonsense{x}\]</div>'
    assert mathematics.with_mathml(bad, said.append) == bad
    assert len(said) == 1


@with_mkdocs
def test_roles_of_docstrings_become_markdown() -> None:
    formula = ".. math:: x &= 1 \\\\\n    y &= 2"
    said = f"With :math:`\\sigma` see :func:`~certes.a.b` and\n\n{formula}\n\nso."
    text = hook("docstrings").markdown(said)
    assert "$\\sigma$" in text
    assert '<autoref identifier="certes.a.b" optional><code>b</code></autoref>' in text
    assert "$$\n\\begin{align*} x &= 1 \\\\\n" in text
    assert text.endswith("so.")


def test_every_command_and_option_is_on_the_page_of_commands() -> None:
    from typer.main import get_command

    from certes.apps.cli import app

    page = hook("commands").command_reference()
    for name, command in get_command(app).commands.items():  # pyright: ignore
        inner = getattr(command, "commands", {"": command})
        for part, single in inner.items():
            assert f"## certes {name} {part}".strip() in page
            known = [name for p in single.params for name in p.opts if name.startswith("-")]
            assert [name for name in known if name not in page] == []


def test_a_folder_in_the_navigation_stands_for_its_pages(tmp_path: Path) -> None:
    for name in ("b.md", "index.md", "a.md", "a.png"):
        (tmp_path / name).write_text("")
    config = {"docs_dir": str(tmp_path.parent), "nav": [{"x": f"{tmp_path.name}/"}]}
    listed = hook("folders").on_config(config)["nav"][0]["x"]
    assert listed == [f"{tmp_path.name}/{name}.md" for name in ("index", "a", "b")]


# Tables that scripts have written.


def test_the_tables_on_scaling_are_those_of_the_measurement(benchmarks: Path) -> None:
    scaling = module_at(benchmarks / "scaling.py")
    told, text = scaling.last_measurement(), scaling.PAGE.read_text(encoding="utf-8")
    assert scaling.tables(told) in text
    assert scaling.tables({**told, scaling.SAMPLED: 2 * told[scaling.SAMPLED]}) not in text


def test_the_computed_part_of_scaling_by_hand(benchmarks: Path) -> None:
    scaling = module_at(benchmarks / "scaling.py")
    told = dict.fromkeys(scaling.last_measurement(), 0.0)
    told |= {scaling.FLOPS: 50.0, scaling.SAMPLED: 72.0, scaling.PASS: 0.5, scaling.REST: 0.4}
    assert scaling.gpu_seconds(told, True, 0.1) == pytest.approx(320 * 50e9 / 98.9e12)
    assert scaling.core_seconds(told, False) == pytest.approx(0.9)
    row = next(line for line in scaling.cluster_table(told).splitlines() if "10^6^" in line)
    assert row.split("|")[2:4] == [" 20 000 ", " 120 "]  # 72e6 s; of 168 hours each


def test_the_least_numbers_of_pictures_are_those_of_the_rules() -> None:
    figure = module_at(DOCS / "figures" / "guarantee.py")
    text = figure.PAGE.read_text(encoding="utf-8")
    assert figure.least_table() in text
    assert "| 0.1 | 0.1 | 25 | 22 | 116 | 9 |" in text  # log(.1)/log(.9) = 21.9; 9 = 1/.1 - 1
