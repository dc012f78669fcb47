"""JPEG: what became of a picture in a file of this quality.

Exactly the pictures of libjpeg-turbo (and so of Pillow and most programs) for baseline files with
the standard tables: its fixed-point colours and cosines, its subsampling and blending of colours,
its continuation of pictures that are no multiple of the block.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from certes.errors import InputError
from certes.restoration.operators.base import checked_shape
from certes.restoration.operators.constants import Constant
from certes.restoration.operators.jpeg_planes import (
    SIDE,
    Full,
    Halved,
    Plane,
    Samples,
    cosine_transform,
    inverse_cosine_transform,
)
from certes.restoration.operators.jpeg_tables import chroma_table, colours, luma_chroma, luma_table
from certes.restoration.operators.jpeg_values import JpegValues, along_channels, apart, joined
from certes.restoration.operators.rounded import RoundedOperator, nearest, rounded_down

Subsampling = Literal["4:2:0", "4:4:4"]

_WHITE, _MIDDLE = 255, 128
_TURNS = 30
_LUMA_CHROMA, _COLOURS = Constant(luma_chroma()), Constant(colours())


class Jpeg(RoundedOperator):
    """The picture that a JPEG file of this quality decodes to, in image units.

    Its whole numbers are the quantised cosine coefficients, those of the luminance first, block by
    block. It computes in float64 whatever the precision of its argument, and gradients go straight
    through every rounding.

    Args:
        shape: (C, H, W) of a picture, grey (C = 1) or RGB (C = 3), of any size.
        quality: 1 to 100, as libjpeg and Pillow mean it.
        subsampling: colours at half the resolution (``4:2:0``, what most programs write) or at full
            resolution (``4:4:4``). Nothing to grey pictures.

    Raises:
        InputError: for other numbers of channels, qualities or ways to subsample.
    """

    name = "jpeg"

    def __init__(
        self, shape: tuple[int, int, int], quality: int, subsampling: Subsampling = "4:2:0"
    ) -> None:
        shape = _checked(shape, quality, subsampling)
        self.quality, self.subsampling = int(quality), subsampling
        planes = _planes(shape, subsampling)
        tables = [luma_table(self.quality), chroma_table(self.quality)][: len(planes)]
        values = JpegValues(shape, planes)
        grey = torch.full((1, *shape), _MIDDLE / _WHITE, dtype=torch.float64)
        table = _everywhere(planes, tables)
        self._planes, self._table = planes, Constant(table)
        grain = 1 / (_WHITE * math.sqrt(12))
        super().__init__(values, table / _WHITE, values(grey)[0], _kinds(planes), grain)

    def encode(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b m"]:
        """Quantised coefficients of pictures; what lies outside [0, 1] is cut off."""
        levels = rounded_down(x.double() * _WHITE, 0.5).clamp(0, _WHITE) - _MIDDLE
        parts = zip(self._planes, _separated(levels), strict=True)
        blocks = [cosine_transform(plane.reduced(part)) for plane, part in parts]
        return self._quantised(joined(blocks)).to(x)

    def decode(self, codes: Float[Tensor, "b m"]) -> Float[Tensor, "b c h w"]:
        """Pictures in [0, 1] from quantised coefficients."""
        levels = self._shown(codes.double()) + _MIDDLE
        return (levels.clamp(0, _WHITE) / _WHITE).to(codes)

    def codes_of(self, y: Float[Tensor, "b c h w"]) -> Float[Tensor, "b m"]:
        """Quantised coefficients behind decoded pictures, found by iterated back-projection.

        What the picture of the coefficients lacks is added to the picture that they are taken from
        (Irani and Peleg 1991), until they show ``y``. Whole blocks come out right but for a few
        values from quality 90 on, where steps are as short as the errors of rounding. In blocks
        that reach beyond the picture, a few in a hundred are one off.
        """
        levels = source = (y.double() * _WHITE).round().clamp(0, _WHITE) - _MIDDLE
        codes = self._quantised(self.linear(source))
        for turn in range(_TURNS):
            missing = levels - self._shown(codes).clamp(-_MIDDLE, _WHITE - _MIDDLE)
            if not bool(missing.any()):
                break
            source = source + missing / (1 + turn / 5)
            codes = self._quantised(self.linear(source))
        return codes.to(y)

    def _quantised(self, coefficients: Float[Tensor, "b m"]) -> Float[Tensor, "b m"]:
        return nearest(coefficients / self._table.like(coefficients))

    def _shown(self, codes: Float[Tensor, "b m"]) -> Float[Tensor, "b c h w"]:
        """Colours about 0, grey levels, some of them darker than black or lighter than white."""
        blocks = apart(codes * self._table.like(codes), self._planes)
        parts = [
            plane.enlarged(inverse_cosine_transform(block).clamp(-_MIDDLE, _WHITE - _MIDDLE))
            for plane, block in zip(self._planes, blocks, strict=True)
        ]
        if len(parts) == 1:
            return parts[0]
        return parts[0] + rounded_down(
            along_channels(_COLOURS.like(parts[0])[:, 1:], parts[1]), 0.5
        )

    def _parameters(self) -> dict[str, Any]:
        return {"quality": self.quality, "subsampling": self.subsampling}


def _separated(levels: Float[Tensor, "b c h w"]) -> list[Samples]:
    """Luminance and colour differences of pictures about 0."""
    if levels.shape[1] == 1:
        return [levels]
    parts = along_channels(_LUMA_CHROMA.like(levels), levels)
    # The library's colour differences are rounded with a half less one unit of its fixed point.
    return [rounded_down(parts[:, :1], 0.5), rounded_down(parts[:, 1:], 0.5 - 2**-16)]


def _planes(shape: tuple[int, int, int], subsampling: Subsampling) -> list[Plane]:
    channels, height, width = shape
    luma = Full(1, height, width)
    if channels == 1:
        return [luma]
    return [luma, (Halved if subsampling == "4:2:0" else Full)(2, height, width)]


def _kinds(planes: Sequence[Plane]) -> Int[Tensor, " m"]:
    """A kind for every frequency of every channel."""
    count = sum(plane.channels for plane in planes)
    each = torch.arange(count * SIDE**2).reshape(1, count, 1, 1, SIDE, SIDE)
    return _everywhere(planes, torch.split(each, [plane.channels for plane in planes], dim=1))


def _everywhere(planes: Sequence[Plane], tables: Sequence[Tensor]) -> Shaped[Tensor, " m"]:
    """The same numbers for every block of a component, each (8, 8) or (1, n, 1, 1, 8, 8)."""
    blocks = [
        table.expand(1, plane.channels, *plane.blocks, SIDE, SIDE)
        for plane, table in zip(planes, tables, strict=True)
    ]
    return joined(blocks)[0]


def _checked(shape: tuple[int, int, int], quality: float, subsampling: str) -> tuple[int, int, int]:
    shape = checked_shape(shape)
    if shape[0] not in (1, 3):
        raise InputError(f"shape is {shape}; a JPEG file has 1 channel (grey) or 3 (RGB)")
    if int(quality) != quality or not 1 <= quality <= 100:
        raise InputError(f"quality is {quality}; wanted a whole number, 1 (worst) to 100 (best)")
    if subsampling not in get_args(Subsampling):
        ways = " or ".join(map(repr, get_args(Subsampling)))
        raise InputError(f"subsampling is {subsampling!r}; wanted {ways}")
    return shape
