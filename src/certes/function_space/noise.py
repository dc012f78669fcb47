r"""White noise of functions: one function, seen at any resolution.

A picture of white noise has independent normal coefficients in any orthonormal basis. In the cosine
basis coefficient :math:`(k, l)` belongs to the same function :math:`\cos(\omega_k y)
\cos(\omega_l x)` of the domain whatever the number of pixels, so that pictures of two resolutions
that share the coefficients below the coarser one's Nyquist frequency show one noise: divided by
their pitches, :math:`\xi / p`, they agree but for what the coarse one cannot show, which after
mollification is :math:`\mathrm{erfc}(\pi w / p)` of the energy along each axis.

Paper: Bond-Taylor & Willcocks 2024 (Infinity-Diff, arXiv:2303.18242), whose noise of another
resolution is drawn anew; multilevel coupling as in Hagemann et al. 2023 (arXiv:2303.04772).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.bases import CosineBasis
from certes.diffusion.noise import NoiseSource, stream_seeds
from certes.errors import InputError

_BASIS = CosineBasis()

# Coefficients of an axis come in bands [0, 16), [16, 32), [32, 64), ...: few streams for large
# pictures, and little that is drawn for nothing.
_FIRST_BAND = 16


class CoupledNoise(NoiseSource):
    """Standard normal pictures whose cosine coefficients do not depend on their resolution.

    Args:
        seeds: one for each item of the batch, each in [0, 2^63).
        device: where the noise is drawn. Streams of different devices differ.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        self._seeds, self._device = list(seeds), device
        self._blocks: dict[tuple[int, int], NoiseSource] = {}

    def __len__(self) -> int:
        return len(self._seeds)

    def normal(
        self, shape: Sequence[int], dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, " b *shape"]:
        """The next draw of every stream, pixels.

        Args:
            shape: (c, h, w) of one picture.
            dtype: the precision in which it is drawn.

        Raises:
            InputError: for anything that is no picture.
        """
        return _BASIS.inverse(self.coefficients(shape, dtype))

    def coefficients(
        self, shape: Sequence[int], dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, " b *shape"]:
        """The cosine coefficients of the next draw: a smaller picture's are a larger one's first.

        Args:
            shape: (c, h, w) of one picture.
            dtype: the precision in which they are drawn.

        Raises:
            InputError: for anything that is no picture.
        """
        if len(shape) != 3:
            raise InputError(f"shape: {tuple(shape)}; noise of functions is drawn as (c, h, w)")
        channels, height, width = shape
        rows = [
            torch.cat([self._block(i, j, channels, dtype) for j in _bands(width)], dim=-1)
            for i in _bands(height)
        ]
        return torch.cat(rows, dim=-2)[..., :height, :width].contiguous()

    def _block(self, i: int, j: int, channels: int, dtype: torch.dtype) -> Float[Tensor, "b c h w"]:
        """The next draw of the coefficients of two bands."""
        if (i, j) not in self._blocks:
            seeds = [stream_seeds(seed, [f"{i}/{j}"])[0] for seed in self._seeds]
            self._blocks[i, j] = NoiseSource(seeds, self._device)
        sides = (_band_size(i), _band_size(j))
        return self._blocks[i, j].normal((channels, *sides), dtype)


def _bands(size: int) -> range:
    """Numbers of the bands that an axis of this many coefficients touches."""
    return range(1 + max(0, math.ceil(math.log2(size / _FIRST_BAND))))


def _band_size(band: int) -> int:
    return _FIRST_BAND * 2 ** max(0, band - 1)
