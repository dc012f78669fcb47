"""Sheets: many small pictures of one size in few files, side by side without a gap.

A folder holds, for a split such as `train`, lossless `train-00.webp`, `train-01.webp`, ... (PNG
will do too) and `train-labels.npy`, one whole number for each picture. Pictures lie row by row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor

from certes.data import stills
from certes.errors import InputError

_SUFFIXES = frozenset({".webp", ".png"})


class Sheets(NamedTuple):
    """Pictures and the class of each."""

    pictures: UInt8[Tensor, "n c s s"]
    labels: Int64[Tensor, " n"]


def read_sheets(folder: str | Path, split: str) -> Sheets:
    """Read all pictures of a split, (n, c, s, s) uint8, and their labels, (n,).

    Pictures are square and fill their sheets, so that their side follows from the count of labels:
    the area of all sheets divided by it is the area of one picture. Sheets whose three channels are
    equal throughout are grey (c = 1; WebP cannot say so), others are RGB (c = 3).

    Raises: InputError for a folder without sheets or labels of that split, for a damaged file, and
    for sheets that cannot be cut into as many squares as there are labels.
    """
    folder = Path(folder)
    sheets = [_pixels(path) for path in _paths(folder, split)]
    labels = _labels(folder / f"{split}-labels.npy")
    side = _side(folder, sheets, len(labels))
    pictures = np.concatenate([_cut(sheet, side) for sheet in sheets])
    return Sheets(torch.as_tensor(pictures), labels)


def read_sheet(path: str | Path, side: int) -> UInt8[Tensor, "n c s s"]:
    """Read the pictures of one sheet, whose side is known, row by row.

    Raises: InputError for a damaged file, or sides that the pictures' is no part of.
    """
    pixels = _pixels(Path(path))
    if any(size % side for size in pixels.shape[:2]):
        raise InputError(f"{path}: {pixels.shape[:2]} pixels cannot be cut into squares of {side}")
    return torch.as_tensor(_cut(pixels, side))


def _paths(folder: Path, split: str) -> list[Path]:
    numbered = folder.glob(f"{split}-[0-9]*")
    paths = sorted(path for path in numbered if path.suffix.lower() in _SUFFIXES)
    if not paths:
        raise InputError(
            f"{folder}: no sheets of the split {split!r}: wanted a folder with {split}-00.webp, "
            f"... and {split}-labels.npy"
        )
    return paths


def _pixels(path: Path) -> NDArray[np.generic]:
    samples = stills.read(path).samples
    if samples.dtype != np.uint8 or samples.shape[-1] not in (1, 3):
        raise InputError(f"{path}: a sheet is 8-bit grey or RGB without alpha: convert it")
    grey = bool((samples == samples[..., :1]).all())
    return samples[..., :1] if grey else samples


def _labels(path: Path) -> Int64[Tensor, " n"]:
    if not path.is_file():
        raise InputError(f"{path}: no such file: sheets come with one label for each picture")
    try:
        labels = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: no array of whole numbers that can be read") from error
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or not len(labels):
        raise InputError(
            f"{path}: {labels.dtype} of shape {labels.shape}; wanted (n,) whole numbers, one label "
            "for each picture"
        )
    return torch.as_tensor(labels.astype(np.int64))


def _side(folder: Path, sheets: Sequence[NDArray[np.generic]], count: int) -> int:
    area = sum(sheet.shape[0] * sheet.shape[1] for sheet in sheets)
    side = math.isqrt(area // count)
    sizes = {size for sheet in sheets for size in sheet.shape[:2]}
    if side * side * count != area or any(size % side for size in sizes):
        raise InputError(
            f"{folder}: sheets of {area} pixels in all cannot be cut into {count} equal squares, "
            "one for each label: fill the last sheet, and give all sheets and labels of one split"
        )
    if len({sheet.shape[-1] for sheet in sheets}) > 1:
        raise InputError(f"{folder}: some sheets are grey, some RGB: give all of one kind")
    return side


def _cut(sheet: NDArray[np.generic], side: int) -> NDArray[np.generic]:
    """(H, W, C) to (n, C, side, side), row by row."""
    height, width, channels = sheet.shape
    cells = sheet.reshape(height // side, side, width // side, side, channels)
    return cells.transpose(0, 2, 4, 1, 3).reshape(-1, channels, side, side)
