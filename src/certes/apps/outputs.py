"""Files of a run: all that belong to one picture, or none of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from certes.data.files import move, naming, scratch_folder
from certes.data.pictures import find_pictures
from certes.errors import InputError
from certes.evaluation.report import Report, write_report


@contextmanager
def all_or_nothing(out: Path) -> Generator[Path, None, None]:
    """Yield a hidden folder in `out`; at the end its files move to `out`, on error they are gone.

    Raises: OSError when `out` cannot be written to.
    """
    with naming(out, out), scratch_folder(out) as folder:
        yield folder
        move(sorted(folder.iterdir()), out)


def save_report(out: Path, report: Report) -> dict[str, Any]:
    """Write ``report.json``, and return what is in it."""
    path = out / "report.json"
    write_report(path, report)
    return json.loads(path.read_text(encoding="utf-8"))


def named_pictures(inputs: Sequence[Path]) -> list[Path]:
    """The pictures behind inputs (files and folders); results are named by them.

    Raises: InputError for a folder without pictures, or two pictures of one name.
    """
    paths = find_pictures(inputs)
    check_names("inputs", [path.stem for path in paths])
    return paths


def check_names(inputs: str, names: Sequence[str]) -> None:
    """Refuse two pictures of one name, whose results would be, too.

    Args:
        inputs: where the pictures are from, as users know it.
        names: of all of them.

    Raises: InputError.
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(
            f"{inputs}: several pictures are named {twice[0]!r}, and so would be their results: "
            "rename one, or restore them into different folders"
        )
