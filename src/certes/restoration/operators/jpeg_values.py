"""The linear part of JPEG: cosine coefficients of a picture before anything is rounded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from certes.restoration.operators.axes import matmul
from certes.restoration.operators.constants import Constant
from certes.restoration.operators.jpeg_planes import SIDE, Blocks, Plane, Samples
from certes.restoration.operators.jpeg_tables import COSINE_ONE, cosines, luma_chroma
from certes.restoration.operators.rounded import LinearValues

_LUMA_CHROMA = luma_chroma()


class JpegValues(LinearValues):
    """The coefficients that a JPEG file holds before they are quantised, in units of the picture.

    Those of the luminance first, channel by channel, block by block.

    Args:
        shape: (C, H, W) of a picture.
        planes: the components.
    """

    name = "jpeg-values"

    def __init__(self, shape: tuple[int, int, int], planes: Sequence[Plane]) -> None:
        super().__init__(shape, (sum(plane.size for plane in planes),))
        colours = _LUMA_CHROMA if shape[0] == 3 else torch.ones(1, 1, dtype=torch.float64)
        self._planes = planes
        self._colours = Constant(colours)
        self._axes = [
            (BlockAxis(plane.height, plane.factor, "samples"),
             BlockAxis(plane.width, plane.factor, "pixels"))
            for plane in planes
        ]  # fmt: skip

    def independent(self, variance: Float[Tensor, "b c h w"]) -> Float[Tensor, "b m"]:
        """The variance of each value where pixels vary independently."""
        return self._forward(variance, power=2)

    def _apply(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b m"]:
        return self._forward(x, power=1)

    def _forward(self, x: Float[Tensor, "b c h w"], power: int) -> Float[Tensor, "b m"]:
        parts = torch.split(
            along_channels(self._colours.like(x) ** power, x),
            [plane.channels for plane in self._planes],
            dim=1,
        )
        blocks: list[Blocks] = []
        for part, (rows, columns) in zip(parts, self._axes, strict=True):
            by_column = columns.apply(part, power)  # (b, n, h, block columns, 8)
            blocks.append(rows.apply(by_column.movedim(2, -1), power).permute(0, 1, 4, 2, 5, 3))
        return joined(blocks)

    def _adjoint(self, y: Float[Tensor, "b m"]) -> Float[Tensor, "b c h w"]:
        parts: list[Samples] = []
        for blocks, (rows, columns) in zip(apart(y, self._planes), self._axes, strict=True):
            by_column = rows.adjoint(blocks.permute(0, 1, 3, 5, 2, 4))  # (b, n, columns, 8, h)
            parts.append(columns.adjoint(by_column.movedim(-1, 2)))
        return along_channels(self._colours.like(y).mT, torch.cat(parts, dim=1))


class BlockAxis:
    """Cosine coefficients of all blocks along one axis of a picture.

    Args:
        size: pixels.
        factor: pixels whose mean is a sample.
        continues: what the last block repeats to be whole: its last pixel, or its last sample.
    """

    def __init__(self, size: int, factor: int, continues: Literal["pixels", "samples"]) -> None:
        self._block = SIDE * factor
        self._whole = size // self._block
        rest = size - self._whole * self._block
        self._matrix = Constant(_block_matrix(self._block, factor, continues))
        self._last = Constant(_block_matrix(rest, factor, continues)) if rest else None

    def apply(self, x: Float[Tensor, "*batch size"], power: int) -> Float[Tensor, "*batch k 8"]:
        """Coefficients of the last axis; by a higher ``power``, with that of every weight."""
        whole, rest = torch.tensor_split(x, [self._whole * self._block], dim=-1)
        blocks = whole.reshape(*whole.shape[:-1], self._whole, self._block)
        blocks = matmul(blocks, self._matrix.like(x).mT ** power)
        if self._last is None:
            return blocks
        last = matmul(rest, self._last.like(x).mT ** power)
        return torch.cat([blocks, last[..., None, :]], dim=-2)

    def adjoint(self, y: Float[Tensor, "*batch k 8"]) -> Float[Tensor, "*batch size"]:
        """The adjoint of ``apply``."""
        whole = matmul(y[..., : self._whole, :], self._matrix.like(y)).flatten(-2)
        if self._last is None:
            return whole
        return torch.cat([whole, matmul(y[..., -1, :], self._last.like(y))], dim=-1)


def along_channels(matrix: Float[Tensor, "k c"], x: Samples) -> Float[Tensor, "b k h w"]:
    """A matrix applied to the channels of every pixel."""
    return matmul(x.movedim(1, -1), matrix.mT).movedim(-1, 1)


def joined(blocks: Sequence[Blocks]) -> Float[Tensor, "b m"]:
    """Coefficients of all components in one row."""
    return torch.cat([block.flatten(1) for block in blocks], dim=1)


def apart(values: Float[Tensor, "b m"], planes: Sequence[Plane]) -> list[Blocks]:
    """What ``joined`` joined."""
    pieces = torch.split(values, [plane.size for plane in planes], dim=1)
    return [
        piece.reshape(-1, plane.channels, *plane.blocks, SIDE, SIDE)
        for plane, piece in zip(planes, pieces, strict=True)
    ]


def _block_matrix(
    pixels: int, factor: int, continues: Literal["pixels", "samples"]
) -> Float[Tensor, "8 pixels"]:
    """Coefficients of one block of which only these pixels lie in the picture."""
    shown = -(-pixels // factor)
    samples = SIDE if continues == "pixels" else shown
    weights = _continued(torch.eye(pixels, dtype=torch.float64), samples * factor)
    weights = weights.reshape(samples, factor, pixels).mean(1)
    return cosines() @ _continued(weights, SIDE) / (COSINE_ONE * SIDE**0.5)


def _continued(rows: Float[Tensor, "k pixels"], size: int) -> Float[Tensor, "size pixels"]:
    return rows[torch.arange(size).clamp(max=len(rows) - 1)]
