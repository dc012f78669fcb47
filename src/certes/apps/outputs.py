"""Files of a run: all that belong to one picture, or none of them."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from certes.data.pictures import find_pictures
from certes.errors import InputError
from certes.evaluation.report import Report, write_report
from certes.intervals.bounds import Bounds
from certes.restoration.operators import Inpaint, LinearOperator, Operator, ValidBlur


@contextmanager
def all_or_nothing(out: Path) -> Generator[Path, None, None]:
    """Yield a hidden folder in `out`; at the end its files move to `out`, on error they are gone.

    Raises: OSError when `out` cannot be written to.
    """
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".certes-", dir=out) as name:
        yield Path(name)
        for path in sorted(Path(name).iterdir()):
            os.replace(path, out / path.name)


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
    twice = [name for name, count in Counter(p.stem for p in paths).items() if count > 1]
    if twice:
        raise InputError(
            f"inputs: several pictures are named {twice[0]!r}, and so would be their results: "
            "rename one, or restore them into different folders"
        )
    return paths


def seen(y: Float[Tensor, "b ..."], H: Operator) -> Float[Tensor, "b c h w"]:
    """A measurement as panels show it: in [0, 1], NaN where nothing was measured.

    What is no picture is shown as the smallest picture that explains it.
    """
    if y.ndim != 4 and isinstance(H, LinearOperator):
        y = H.pinv(y)
    shown = y.clamp(0, 1)
    return torch.where(H.mask, shown, torch.nan) if isinstance(H, Inpaint) else shown


def framed(bounds: Bounds, H: Operator) -> Bounds:
    """Bounds of what the measurement shows, without a border that only its blur reached."""
    if not isinstance(H, ValidBlur):
        return bounds
    return replace(
        bounds,
        lower=H.interior(bounds.lower),
        estimate=H.interior(bounds.estimate),
        upper=H.interior(bounds.upper),
    )
