"""The wheel where nothing is installed but what it says that it needs: no extra, no torchvision."""

from __future__ import annotations

import email
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

ROOT = Path(__file__).parents[2]
ABSENT = ("torchvision", "gradio", "ray", "pyarrow", "mkdocs", "hypothesis", "diffusers", "skimage")


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel and source archive, as `make release` builds them."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def wheel(dist: Path) -> zipfile.ZipFile:
    (path,) = dist.glob("*.whl")
    return zipfile.ZipFile(path)


def needed(name: str, extras: frozenset[str] = frozenset()) -> Iterator[Distribution]:
    """What is installed of a distribution and of all that it asks for."""
    seen: set[tuple[str, frozenset[str]]] = set()
    wanted = [(canonicalize_name(name), extras)]
    while wanted:
        one = wanted.pop()
        if one in seen:
            continue
        seen.add(one)
        found = distribution(one[0])
        yield found
        for text in found.requires or ():
            asked = Requirement(text)
            marker = asked.marker
            if marker is None or any(marker.evaluate({"extra": e}) for e in one[1] | {""}):
                wanted.append((canonicalize_name(asked.name), frozenset(asked.extras)))


@pytest.fixture(scope="module")
def site(wheel: zipfile.ZipFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages of the wheel, beside links to the packages that its metadata asks for."""
    site = tmp_path_factory.mktemp("site")
    for dist in needed("certes"):
        if dist.name == "certes":
            continue
        tops = {Path(file).parts[0] for file in dist.files or ()} - {"..", "__pycache__"}
        for top in tops:
            place, target = site / top, Path(str(dist.locate_file(top)))
            if not place.exists():
                place.symlink_to(target)
    wheel.extractall(site)
    return site


def run(site: Path, *arguments: object) -> str:
    """What a Python prints that finds packages there and nowhere else."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    command = [sys.executable, "-S", *map(str, arguments)]
    more = {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "PYTHONNOUSERSITE": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment | more
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="compares with what git tracks")
def test_what_is_in_it(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert "certes/py.typed" in names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"certes"}
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "src"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    packed = {f"src/{name}" for name in names if name.startswith("certes/")}
    assert packed == {name for name in tracked if not name.endswith(".gitignore")}
    (said,) = (name for name in names if name.endswith(".dist-info/METADATA"))
    metadata = email.message_from_string(wheel.read(said).decode())
    assert metadata["Requires-Python"] == ">=3.11"
    for minor in (11, 12, 13):
        assert f"Programming Language :: Python :: 3.{minor}" in metadata.get_all("Classifier", [])
    assert set(metadata.get_all("Provides-Extra", [])) >= {"web", "batch"}


def test_what_is_in_the_source_archive(dist: Path) -> None:
    """What users need to check it: tests, documents, and nothing that runs leave behind."""
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "LICENSE", "Makefile", "constraints.txt", "mkdocs.yml"} <= names
    assert "tests/distribution/test_wheel.py" in names
    assert not [name for name in names if ".venv" in name or ".cache" in name or "site/" in name]


def test_packages_that_it_does_not_ask_for_are_not_there(site: Path) -> None:
    """Without this the tests below would show nothing: here they are all installed."""
    looked = f"import importlib.util as u; print([m for m in {ABSENT} if u.find_spec(m)])"
    assert run(site, "-c", looked).strip() == "[]"
    assert "site-packages" not in run(site, "-c", "import certes; print(certes.__file__)")


def test_every_module_can_be_imported(site: Path) -> None:
    """But for those of the extras, of the adapter to deepinv, and of kernels for GPUs."""
    walk = """
import importlib, pkgutil, certes
for module in pkgutil.walk_packages(certes.__path__, "certes."):
    if not module.name.endswith("__main__"):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            print(error.name.partition(".")[0])
"""
    assert set(run(site, "-c", walk).split()) <= {"deepinv", "gradio", "pyarrow", "triton"}


def test_it_restores_a_picture(site: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (24, 24), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    assert "photo-grey" in run(site, "-m", "certes", "models", "list")
    words = ("--task", "denoise", "--noise", 0.1, "--model", "photo-grey", "--samples", 2)
    run(
        site, "-m", "certes", "restore", tmp_path / "a.png", *words, "--steps", 2,
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert (tmp_path / "out" / "a.intervals.tif").is_file()


def test_what_needs_an_extra_says_so(site: Path, tmp_path: Path) -> None:
    for command, extra in (
        (("serve",), "web"),
        (("batch", ROOT / "docs", tmp_path / "o"), "batch"),
    ):
        with pytest.raises(AssertionError, match=rf"error: .*certes\[{extra}\]"):
            run(site, "-m", "certes", *command)
