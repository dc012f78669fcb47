"""One component of a JPEG file in whole numbers: samples, their blocks, and the way back.

Step by step what libjpeg does. Gradients go straight through every rounding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from certes.restoration.operators.axes import matmul
from certes.restoration.operators.constants import Constant
from certes.restoration.operators.jpeg_tables import COSINE_ONE, cosines
from certes.restoration.operators.rounded import rounded_down

Samples = Float[Tensor, "b n h w"]
Blocks = Float[Tensor, "b n rows columns 8 8"]

SIDE = 8
_COSINES = Constant(cosines())


@dataclass(frozen=True)
class Plane(ABC):
    """Samples of one kind, in blocks of 8 x 8.

    Args:
        channels: planes that are alike, 1 (luminance) or 2 (colour differences).
        height: rows of the picture.
        width: columns of the picture.
    """

    channels: int
    height: int
    width: int

    @property
    @abstractmethod
    def factor(self) -> int:
        """Pixels of the picture along a sample."""

    @abstractmethod
    def reduced(self, x: Samples) -> Samples:
        """Samples of pixels, continued to whole blocks."""

    @abstractmethod
    def enlarged(self, samples: Samples) -> Samples:
        """Pixels shown for samples."""

    @property
    def shown(self) -> tuple[int, int]:
        """Rows and columns of samples of which pixels show something."""
        return -(-self.height // self.factor), -(-self.width // self.factor)

    @property
    def blocks(self) -> tuple[int, int]:
        """Rows and columns of blocks."""
        rows, columns = self.shown
        return -(-rows // SIDE), -(-columns // SIDE)

    @property
    def padded(self) -> tuple[int, int]:
        """Rows and columns of samples in whole blocks."""
        rows, columns = self.blocks
        return SIDE * rows, SIDE * columns

    @property
    def size(self) -> int:
        """Number of coefficients."""
        rows, columns = self.padded
        return self.channels * rows * columns


class Full(Plane):
    """A sample for every pixel."""

    @property
    def factor(self) -> int:
        """One."""
        return 1

    def reduced(self, x: Samples) -> Samples:
        """The pixels themselves."""
        return _continued(x, *self.padded)

    def enlarged(self, samples: Samples) -> Samples:
        """The samples themselves."""
        return samples[..., : self.height, : self.width]


class Halved(Plane):
    """A sample for every square of four pixels: the colours of 4:2:0."""

    @property
    def factor(self) -> int:
        """Two."""
        return 2

    def reduced(self, x: Samples) -> Samples:
        """Means of four pixels; halves are rounded down and up by turns, from column to column."""
        rows, columns = self.shown[0], self.padded[1]
        # The library continues rows of pixels, but columns of samples.
        means = avg_pool2d(_continued(x, 2 * rows, 2 * columns), 2)
        turns = 0.25 + 0.25 * (torch.arange(columns, device=x.device) % 2)
        return _continued(rounded_down(means, turns.to(x)), *self.padded)

    def enlarged(self, samples: Samples) -> Samples:
        """Each pixel is 3/4 its own sample and 1/4 its neighbour's, along rows and columns."""
        rows, columns = self.shown
        samples = samples[..., :rows, :columns]
        # The library does not blend pictures of less than three samples in a row.
        pixels = _blended(samples) if columns > 2 else _repeated(samples)
        return pixels[..., : self.height, : self.width]


def cosine_transform(samples: Samples) -> Blocks:
    """Coefficients of the orthonormal cosine transform of every block, in steps of 1/8."""
    b, n, height, width = samples.shape
    blocks = samples.reshape(b, n, height // SIDE, SIDE, width // SIDE, SIDE).transpose(3, 4)
    t = _COSINES.like(samples)
    along_rows = rounded_down(matmul(blocks, t.mT) * (4 / COSINE_ONE), 0.5)
    return rounded_down(matmul(along_rows.mT, t.mT).mT / (4 * COSINE_ONE), 0.5) / 8


def inverse_cosine_transform(coefficients: Blocks) -> Samples:
    """Samples of every block."""
    t = _COSINES.like(coefficients)
    along_columns = rounded_down(matmul(coefficients.mT, t).mT * (4 / COSINE_ONE), 0.5)
    blocks = rounded_down(matmul(along_columns, t) / (32 * COSINE_ONE), 0.5)
    return blocks.transpose(3, 4).flatten(4, 5).flatten(2, 3)


def _continued(x: Samples, height: int, width: int) -> Samples:
    """The last row and column repeated, up to this size."""
    return pad(x, (0, width - x.shape[-1], 0, height - x.shape[-2]), mode="replicate")


def _repeated(samples: Samples) -> Samples:
    return samples.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)


def _blended(samples: Samples) -> Samples:
    sixteenths = _interpolated(_interpolated(samples.mT).mT)
    turns = 0.5 - 0.0625 * (torch.arange(sixteenths.shape[-1], device=samples.device) % 2)
    return rounded_down(sixteenths / 16, turns.to(samples))


def _interpolated(x: Samples) -> Samples:
    """Twice the columns: three of its own sample and one of that on its other side."""
    wide = pad(x, (1, 1, 0, 0), mode="replicate")
    return torch.stack([3 * x + wide[..., :-2], 3 * x + wide[..., 2:]], dim=-1).flatten(-2)
