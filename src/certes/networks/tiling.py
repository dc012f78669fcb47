r"""Pictures larger than a denoiser can take at once: overlapping tiles, blended.

Only the denoiser is tiled; the operator and the sampler stay global, so tiles agree on one picture.
Each pixel is the average of the tiles that hold it, with weights that fall to zero towards a tile's
border, so that no border shows and no pixel is judged without its surroundings.
"""

from __future__ import annotations

from types import EllipsisType

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.covariance import Covariance
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.networks.prior import Prior

Window = tuple[EllipsisType, slice, slice]

# Pixels that a fully convolutional network is given at once; about 1 GB of activations.
_LARGEST = 2**19
# What neighbouring tiles of such a network share: what it sees to either side of a pixel, roughly.
_OVERLAP = 64


class TiledDenoiser(Denoiser):
    """A denoiser applied tile by tile.

    Args:
        denoiser: what judges a tile.
        tile: side of the tiles, pixels.
        overlap: pixels that neighbouring tiles share.
    """

    def __init__(self, denoiser: Denoiser, tile: int, overlap: int) -> None:
        self.denoiser = denoiser
        self.tile = tile
        self.overlap = overlap
        self.confined = denoiser.confined

    def __call__(self, x: Float[Tensor, "b c h w"], sigma: Float[Tensor, " b"]) -> Denoised:
        rows, columns = (starts(side, self.tile, self.overlap) for side in x.shape[-2:])
        total = weights = x.new_zeros(1)
        variance: Tensor | None = None
        for top in rows:
            for left in columns:
                window = (..., slice(top, top + self.tile), slice(left, left + self.tile))
                answer = self.denoiser(x[window], sigma)
                weight = _window(answer.mean.shape[-2:], x)
                total = _added(total, x, window, weight * answer.mean)
                weights = _added(weights, x, window, weight.expand_as(answer.mean))
                if answer.variance is not None:
                    before = x.new_zeros(1) if variance is None else variance
                    variance = _added(before, x, window, weight * answer.variance)
        return Denoised(total / weights, None if variance is None else variance / weights)

    def covariance(self, denoised: Denoised, sigma: Float[Tensor, " b"]) -> Covariance:
        return self.denoiser.covariance(denoised, sigma)


def fitted(prior: Denoiser, shape: tuple[int, int, int]) -> Denoiser:
    """The prior itself, or tiles of it where a picture of this shape is too much for it.

    A network with attention is used at the size it was trained on; a fully convolutional one at any
    size that fits in memory.
    """
    if not isinstance(prior, Prior):
        return prior
    _, height, width = shape
    if prior.rigid and prior.side is not None:
        tile, overlap = prior.side, prior.side // 4
    elif height * width > _LARGEST:
        tile, overlap = int(_LARGEST**0.5), _OVERLAP
    else:
        return prior
    return prior if max(height, width) <= tile else TiledDenoiser(prior, tile, overlap)


def starts(side: int, tile: int, overlap: int) -> list[int]:
    """Even steps from 0 to ``side - tile``, neighbours sharing at least ``overlap``."""
    if side <= tile:
        return [0]
    count = -(-(side - tile) // (tile - overlap)) + 1
    return [round(i * (side - tile) / (count - 1)) for i in range(count)]


def _window(size: tuple[int, ...], like: Tensor) -> Float[Tensor, "h w"]:
    """A product of sine arches, positive everywhere."""
    arches = [torch.sin((torch.arange(n).to(like) + 0.5) * torch.pi / n) for n in size]
    return arches[0][:, None] * arches[1]


def _added(total: Tensor, x: Tensor, window: Window, part: Tensor) -> Tensor:
    total = torch.zeros_like(x) if total.numel() == 1 else total
    total[window] += part
    return total
