"""Runs the code of a page of documentation, as a reader would, from top to bottom.

    python tests/docs/documents.py      # make the figures of all tutorials anew

The rules that such a page keeps:

* ``python`` blocks share one namespace, ``sh`` blocks go through bash; all work in one folder that
  is empty at the start. Blocks titled "once" (setting up) are for readers only.
* A ``text`` block is what the block before it prints. Its words must be there; numbers may differ
  a little, as processors round differently; ``...`` stands for anything.
* A figure ``img/tutorials/PAGE/NAME`` is the file NAME that the page's code has written.
"""

from __future__ import annotations

import io
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"
TUTORIALS = DOCS / "tutorials"
FIGURES = DOCS / "img" / "tutorials"

_BLOCK = re.compile(r"^```([a-z]+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FIGURE = re.compile(r"!\[[^\]]+\]\((\S+?\.png)\)")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)")
_NEARLY = 0.03  # what two processors that round differently may differ by


class DocumentError(Exception):
    """A page that does not do what it says."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `line` is that of its first line of code."""

    language: str
    title: str
    code: str
    line: int


@dataclass(frozen=True)
class Figure:
    """A picture on a page: where it is kept, and where the page's code writes it."""

    kept: Path
    made: Path


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page, from top to bottom."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(m[1], m[2].strip(), m[3], text.count("\n", 0, m.start(3)) + 1)
        for m in _BLOCK.finditer(text)
    ]


def figures_of(page: Path, made_in: Path) -> list[Figure]:
    """The figures that a page shows and its code makes, in the folder where the code was run."""
    kept = [
        (page.parent / m[1]).resolve() for m in _FIGURE.finditer(page.read_text(encoding="utf-8"))
    ]
    own = FIGURES / page.stem
    return [Figure(k, made_in / k.relative_to(own)) for k in kept if k.is_relative_to(own)]


def run_page(page: Path, folder: Path, shorter: dict[str, str] | None = None) -> None:
    """Run all blocks of a page in `folder`.

    Args:
        page: the page.
        folder: an empty folder.
        shorter: what commands are to be replaced by, for a test that cannot wait for them.

    Raises: DocumentError for a block that fails, or prints something else than the page says.
    """
    namespace: dict[str, Any] = {"__name__": "__main__"}
    printed = ""
    for block in blocks_of(page):
        where = f"{page.name}:{block.line}"
        if "once" in block.title:
            continue
        if block.language == "text":
            if not says(printed, block.code):
                raise DocumentError(f"{where}: expected\n{block.code}\nprinted\n{printed}")
        elif block.language == "python":
            printed = _run_python(block, where, folder, namespace)
        elif block.language == "sh":
            printed = _run_shell(block, where, folder, shorter or {})


def says(printed: str, expected: str) -> bool:
    """Whether a text is what a page says is printed: the same words, nearly the same numbers."""
    numbers = list(_numbers(expected))
    found = re.fullmatch(_pattern(expected), " ".join(printed.split()), re.DOTALL)
    return found is not None and all(
        _close(float(ours), theirs) for ours, theirs in zip(found.groups(), numbers, strict=True)
    )


def _pattern(expected: str) -> str:
    """A regular expression with a group for each number."""
    parts = (re.escape(part) for part in _NUMBER.split(" ".join(expected.split())))
    return f"({_NUMBER.pattern})".join(parts).replace(r"\.\.\.", ".*?").replace(r"\ ", r"\s*")


def _numbers(text: str) -> Iterator[str]:
    return (m[0] for m in _NUMBER.finditer(text))


def _close(ours: float, theirs: str) -> bool:
    """Equal, whole numbers; else nearly, or to within two units of the last place shown."""
    places = len(theirs.partition(".")[2])
    if places == 0:
        return ours == float(theirs)
    return math.isclose(ours, float(theirs), rel_tol=_NEARLY, abs_tol=2.01 * 10**-places)


def _run_python(block: Block, where: str, folder: Path, namespace: dict[str, Any]) -> str:
    # As many empty lines as stand above it, so that a traceback names the page's own lines.
    code = "\n" * (block.line - 1) + block.code
    heard = io.StringIO()
    try:
        with chdir(folder), redirect_stdout(heard):
            exec(compile(code, where.partition(":")[0], "exec"), namespace)
    except Exception as error:
        raise DocumentError(f"{where}: {type(error).__name__}: {error}") from error
    return heard.getvalue()


def _run_shell(block: Block, where: str, folder: Path, shorter: dict[str, str]) -> str:
    command = block.code
    for long, short in shorter.items():
        command = command.replace(long, short)
    here = str(Path(sys.executable).parent)
    environment = os.environ | {"PATH": f"{here}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise DocumentError(f"{where}: exit code {done.returncode}: {done.stderr}")
    return done.stdout


def tutorials() -> list[Path]:
    """The pages whose code runs."""
    return [DOCS / "start.md", *sorted(TUTORIALS.glob("*.md"))]


def _make_figures() -> None:
    for page in sorted(TUTORIALS.glob("*.md")):
        with tempfile.TemporaryDirectory() as folder:
            run_page(page, Path(folder))
            for figure in figures_of(page, Path(folder)):
                figure.kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(figure.made, figure.kept)
                print(f"{figure.kept.relative_to(DOCS)}: {figure.kept.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    _make_figures()
