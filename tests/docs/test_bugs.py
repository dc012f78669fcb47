"""Pages of published bugs: complete, and what they name exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUGS = ROOT / "docs" / "bugs"
PAGES = {path.stem: path for path in sorted(BUGS.glob("*.md")) if path.stem != "index"}
PARTS = ["Who has it", "What it does", "How certes does it", "The test"]

_NAMED = re.compile(r"`((?:src|tests|benchmarks)/[\w/]+\.py)((?:(?:::|\.)\w+)*)`")
_PATH = re.compile(r"`(?:src|tests|benchmarks)/[^`]*`")
_ROW = re.compile(r"^\| (.+) \| (.+) \| \[([\w-]+)\]\(([\w-]+)\.md\) \|$", re.MULTILINE)


@cache
def names_of(path: Path) -> frozenset[str]:
    """Everything that a module defines, members of its classes as ``Class.member``."""
    return frozenset(_defined(ast.parse(path.read_text(encoding="utf-8")).body))


def _defined(body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef):
            yield prefix + node.name
        elif isinstance(node, ast.ClassDef):
            yield prefix + node.name
            yield from _defined(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (prefix + t.id for t in targets if isinstance(t, ast.Name))


def parts_of(text: str) -> dict[str, str]:
    """The text below each heading of the second level."""
    _, *rest = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    return dict(zip(rest[::2], (part.strip() for part in rest[1::2]), strict=True))


def named_in(text: str) -> list[tuple[str, str]]:
    """Files, and what of them: ``::Class::test`` and ``::Class.member`` are both Class.member."""
    return [
        (path, name.replace("::", ".").removeprefix(".")) for path, name in _NAMED.findall(text)
    ]


def complaints(text: str) -> list[str]:
    """What is wrong with a page."""
    parts, found = parts_of(text), []
    if list(parts) != PARTS or not all(parts.values()):
        found.append(f"parts: {list(parts)}, or an empty one")
    if not re.match(r"# \S.*\n\n## ", text):
        found.append("no title")
    tests = [n for p, n in named_in(parts.get(PARTS[3], "")) if p.startswith("tests/") and n]
    if not tests:
        found.append("no test is named")
    found += [f"{n} is no test" for n in tests if not n.split(".")[-1].startswith("test_")]
    if not any(p.startswith("src/") for p, _ in named_in(parts.get(PARTS[2], ""))):
        found.append("no source is named")
    found += [f"{p} is no name" for p in _PATH.findall(text) if not _NAMED.fullmatch(p)]
    for path, name in named_in(text):
        if not (ROOT / path).is_file():
            found.append(f"{path} is missing")
        elif name and name not in names_of(ROOT / path):
            found.append(f"{path} has no {name}")
    return found


def rows_of(index: str) -> dict[str, str]:
    """The bug of each page in the tables of the index."""
    return {page: bug for bug, _, page, _ in _ROW.findall(index)}


def misfits(index: str, titles: dict[str, str]) -> list[str]:
    """Pages that the index does not have, has and are none, or calls by another name."""
    rows = rows_of(index)
    missing = [f"{page} is not in the index" for page in titles.keys() - rows.keys()]
    surplus = [f"{page} is no page" for page in rows.keys() - titles.keys()]
    renamed = [f"{p} is called {rows[p]}" for p in rows.keys() & titles if rows[p] != titles[p]]
    links = [f"{p} leads to {to}" for _, _, p, to in _ROW.findall(index) if p != to]
    return sorted(missing + surplus + renamed + links)


def titles() -> dict[str, str]:
    texts = {name: path.read_text(encoding="utf-8") for name, path in PAGES.items()}
    return {name: text.partition("\n")[0].removeprefix("# ") for name, text in texts.items()}


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_complete_and_what_they_name_exists(name: str) -> None:
    assert complaints(PAGES[name].read_text(encoding="utf-8")) == []


def test_there_are_pages() -> None:
    assert len(PAGES) >= 20
    assert len(set(titles().values())) == len(PAGES)


def test_the_index_has_every_page_and_no_other() -> None:
    assert misfits((BUGS / "index.md").read_text(encoding="utf-8"), titles()) == []


def test_every_test_of_a_defect_has_its_page() -> None:
    told = {pair for path in PAGES.values() for pair in named_in(path.read_text(encoding="utf-8"))}
    files = [path.relative_to(ROOT) for path in sorted(ROOT.glob("tests/*/test_defects_*.py"))]
    assert files
    for path in files:
        tests = {n for n in names_of(ROOT / path) if n.startswith("test_defect_")}
        assert tests
        assert {(str(path), n) for n in tests} - told == set()


PAGE = """# A defect

## Who has it

Nobody.

## What it does

Nothing.

## How certes does it

`src/certes/intervals/families.py::Family.critical`

## The test

`tests/docs/test_bugs.py::test_there_are_pages`
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("## What it does\n\nNothing.\n\n", "", "parts"),
        ("Nothing.", "", "empty"),
        ("# A defect\n\n", "", "no title"),
        ("::test_there_are_pages", "", "no test is named"),
        ("::test_there_are_pages", "::test_there_are_none", "has no test_there_are_none"),
        ("::test_there_are_pages", "::complaints", "complaints is no test"),
        ("docs/test_bugs.py", "docs/test_gone.py", "test_gone.py is missing"),
        ("::Family.critical", "::Family.gone", "has no Family.gone"),
        ("families.py::Family.critical", "gone.py", "gone.py is missing"),
        ("`src/certes/intervals/families.py::Family.critical`", "By hand.", "no source"),
        ("families.py::Family.critical", "families.py:: Family", "is no name"),
    ],
)
def test_an_incomplete_page_is_noticed(old: str, new: str, said: str) -> None:
    """Negative controls."""
    assert complaints(PAGE) == []
    assert old in PAGE
    assert said in " ".join(complaints(PAGE.replace(old, new)))


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ("", "one is not in the index"),
        ("| A bug | bad | [one](one.md) |\n| Two | bad | [two](two.md) |", "two is no page"),
        ("| Another bug | bad | [one](one.md) |", "one is called Another bug"),
        ("| A bug | bad | [one](two.md) |", "one leads to two"),
        ("| A bug | bad | one |", "one is not in the index"),
    ],
)
def test_an_index_that_does_not_fit_is_noticed(index: str, said: str) -> None:
    """Negative controls."""
    assert misfits("| A bug | bad | [one](one.md) |", {"one": "A bug"}) == []
    assert said in misfits(index, {"one": "A bug"})
