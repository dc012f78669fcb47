"""Sheets: pictures in labelled rows and columns, as one PNG."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from certes.data.files import atomic_path
from certes.data.mosaic import mosaic
from certes.errors import InputError

# matplotlib's own types are full of unknowns, and importing it takes half a second.
Figure = Any

INK, MUTED = "#222222", "#6b6b6b"
_BRIGHT = 0.8

# In pixels. A picture is shown at a side between these two, so that it can be seen, and so that a
# sheet of a hundred does not become a poster.
_SMALLEST, _LARGEST = 96, 256
_GAP = 4
_MARGIN = 16
_NARROWEST = 640
_DPI = 100
_TITLE, _LABEL, _NOTE = 13.0, 10.0, 9.0  # points
_LINE = 1.45 * _DPI / 72  # pixels from line to line, for each point of the letters
_LETTER = 0.62 * _DPI / 72  # pixels of an average letter, for each point


def white_of(pictures: Float[Tensor, " *shape"]) -> float:
    """The value to draw as white, so that dark pictures can be seen.

    Fluorescence pictures use little of their range: on a scale up to 1 they are black. Pictures
    that use more than 80 % of it are left alone.
    """
    high = float(np.quantile(pictures.numpy(), 0.998))
    return 1.0 if high > _BRIGHT else max(high, 1e-3)


@dataclass(frozen=True)
class Sheet:
    """What a sheet shows: pictures row by row, (rows, columns, C, H, W), and what they are.

    Raises: InputError when there is not one label for each row and each column.
    """

    pictures: Float[Tensor, "rows columns c h w"]
    rows: Sequence[str]
    columns: Sequence[str]
    title: str
    note: str

    def __post_init__(self) -> None:
        found, wanted = tuple(self.pictures.shape[:2]), (len(self.rows), len(self.columns))
        if found != wanted or 0 in wanted:
            raise InputError(
                f"rows, columns: {wanted[0]} and {wanted[1]} labels for {found[0]} rows and "
                f"{found[1]} columns of pictures; give one for each, and at least one picture"
            )


def picture_sheet(path: str | Path, sheet: Sheet) -> None:
    """Draw a sheet as a PNG, atomically.

    Small pictures are enlarged without smoothing, large ones reduced; dark ones are brightened,
    all by the same factor, and the sheet says so.

    Raises: OSError when `path` cannot be written.
    """
    import matplotlib

    image = _pixels(sheet)
    with cast(Any, matplotlib).rc_context({"font.family": "DejaVu Sans"}):
        figure = _figure(sheet, image)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png", dpi=_DPI)


def _pixels(sheet: Sheet) -> Float[Tensor, "height width 3"]:
    """All pictures at the size in which they are shown, white between them."""
    pictures = sheet.pictures.detach().float().cpu()
    flat = (pictures / white_of(pictures)).clamp(0, 1).flatten(0, 1).expand(-1, 3, -1, -1)
    shown = mosaic(_resized(flat), len(sheet.columns), _GAP, fill=1.0)
    return shown.movedim(0, -1)


def _resized(pictures: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h2 w2"]:
    longest = max(pictures.shape[-2:])
    if longest > _LARGEST:
        height, width = (max(1, round(side * _LARGEST / longest)) for side in pictures.shape[-2:])
        return F.interpolate(pictures, size=(height, width), mode="area")
    zoom = -(-_SMALLEST // longest)
    return pictures.repeat_interleave(zoom, -1).repeat_interleave(zoom, -2)


def _figure(sheet: Sheet, image: Float[Tensor, "height width 3"]) -> Figure:
    """Title, column labels, the pictures with their row labels, note: from top to bottom."""
    import matplotlib.figure

    height, width = image.shape[:2]
    left = _MARGIN + _widest(sheet.rows)
    whole_width = max(left + width + _MARGIN, _NARROWEST)
    title = _wrapped(sheet.title, whole_width, _TITLE)
    note = _wrapped(_note(sheet), whole_width, _NOTE)
    top = _MARGIN + _height(title, _TITLE) + max(_height(c, _LABEL) for c in sheet.columns)
    bottom = _MARGIN + _height(note, _NOTE)
    size = (whole_width / _DPI, (top + height + bottom) / _DPI)
    figure: Figure = matplotlib.figure.Figure(figsize=size, dpi=_DPI)
    figure.figimage(image.numpy(), xo=left, yo=bottom, origin="upper")
    _write(figure, _MARGIN, _MARGIN / 2, title, _TITLE, weight="bold")
    _write(figure, _MARGIN, top + height + _MARGIN / 2, note, _NOTE, color=MUTED)
    for label, x in zip(sheet.columns, _middles(len(sheet.columns), width), strict=True):
        _write(figure, left + x, top - _GAP, label, _LABEL, ha="center", va="bottom")
    for label, y in zip(sheet.rows, _middles(len(sheet.rows), height), strict=True):
        _write(figure, left - _GAP, top + y, label, _LABEL, ha="right", va="center")
    return figure


def _write(figure: Figure, x: float, y: float, text: str, size: float, **style: Any) -> None:
    """Place text by pixels from the left and from the top."""
    width, height = figure.get_size_inches() * _DPI
    style = {"color": INK, "va": "top", "linespacing": 1.25} | style
    figure.text(x / width, 1 - y / height, text, fontsize=size, **style)


def _note(sheet: Sheet) -> str:
    white = white_of(sheet.pictures.detach().float().cpu())
    if white == 1.0:
        return sheet.note
    return f"{sheet.note} Brightened for display: white is {white:.2g} and above, in all pictures."


def _middles(count: int, length: int) -> list[float]:
    """Where the middles of rows or columns lie, in pixels."""
    pitch = (length + _GAP) / count
    return [(i + 0.5) * pitch - _GAP / 2 for i in range(count)]


def _wrapped(text: str, width: float, size: float) -> str:
    letters = int((width - 2 * _MARGIN) / (_LETTER * size))
    return "\n".join(textwrap.wrap(text, letters))


def _height(text: str, size: float) -> int:
    """Of one line or several, in pixels."""
    return round((text.count("\n") + 1) * _LINE * size)


def _widest(labels: Sequence[str]) -> int:
    longest = max(len(line) for label in labels for line in label.split("\n"))
    return round(longest * _LETTER * _LABEL) + _GAP
