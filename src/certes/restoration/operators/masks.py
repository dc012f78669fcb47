"""Masks: which pixels of a picture are known."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Shaped
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from certes.errors import InputError
from certes.restoration.operators.base import as_tensor


def random_mask(height: int, width: int, missing: float, seed: int) -> Bool[Tensor, "h w"]:
    """Pixels missing at random: exactly the wanted share of them, not only on average.

    Args:
        height: H.
        width: W.
        missing: share of unknown pixels, in [0, 1).
        seed: the same seed gives the same mask.

    Raises:
        InputError: a share that leaves no pixel.
    """
    size = height * width
    unknown = round(missing * size) if 0 <= missing < 1 else size
    if unknown == size:
        raise InputError(
            f"missing: {missing} of {height} x {width} pixels; give a share in [0, 1) that leaves "
            f"at least one"
        )
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    return (order >= unknown).reshape(height, width)


def box_mask(height: int, width: int, box: tuple[int, int, int, int]) -> Bool[Tensor, "h w"]:
    """A rectangle is missing.

    Args:
        height: H.
        width: W.
        box: top, left, height and width of the rectangle, pixels.

    Raises:
        InputError: a rectangle that is empty, leaves the picture, or covers it.
    """
    top, left, rows, columns = box
    inside = min(top, left) >= 0 and top + rows <= height and left + columns <= width
    if not inside or min(rows, columns) < 1 or rows * columns == height * width:
        raise InputError(
            f"box: top {top}, left {left}, {rows} x {columns} in a picture of {height} x {width}; "
            f"give a rectangle inside it that leaves some pixel"
        )
    known = torch.ones(height, width, dtype=torch.bool)
    known[top : top + rows, left : left + columns] = False
    return known


def text_mask(height: int, width: int, text: str, size: int = 24) -> Bool[Tensor, "h w"]:
    """A text is written all over the picture; its strokes are missing.

    Args:
        height: H.
        width: W.
        text: repeated until the picture is full.
        size: of the letters, pixels.

    Raises:
        InputError: a text that leaves no trace at this size, or no known pixel.
    """
    if size < 1:
        raise InputError(f"size: {size}; give a positive number of pixels")
    page = Image.new("1", (width, height))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size)
    words = f"{text} "
    line = words * (1 + width // max(1, int(draw.textlength(words, font=font))))
    for top in range(0, height, round(1.5 * size)):
        draw.text((0, top), line, fill=1, font=font)
    known = ~torch.as_tensor(np.array(page))
    if bool(known.all()) or not bool(known.any()):
        raise InputError(
            f"text: {text!r} at {size} pixels marks no pixel, or all, of {height} x {width}; give "
            f"another text or size"
        )
    return known


def checked_mask(
    mask: Shaped[Tensor, "*c h w"], shape: tuple[int, int, int]
) -> Bool[Tensor, "c h w"]:
    """A mask of zeros and ones, at least one, for pictures (C, H, W); or an ``InputError``."""
    mask, (channels, height, width) = as_tensor(mask), shape
    if mask.ndim not in (2, 3) or tuple(mask.shape[-2:]) != (height, width):
        raise InputError(
            f"mask has shape {tuple(mask.shape)}, the picture {shape}; wanted a mask of shape "
            f"({height}, {width}), one value per pixel"
        )
    if mask.ndim == 3 and mask.shape[0] not in (1, channels):
        raise InputError(
            f"mask has {mask.shape[0]} channels, the picture {channels}; wanted 1 or {channels}"
        )
    known = mask != 0
    if not bool((mask == known).all()):
        raise InputError(
            "mask holds other values than 0 (unknown) and 1 (known); threshold it first"
        )
    if not bool(known.any()):
        raise InputError(
            "mask marks every pixel as unknown; at least one must be known (1 or True)"
        )
    return known.expand(shape).clone()
