"""Degraded copies of clean pictures, for trying a restoration out where the truth is known."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.noise import NoiseSource, stream_seeds
from certes.errors import InputError
from certes.restoration.operators import Operator


def degrade(
    x: Float[Tensor, "b c h w"], H: Operator, noise: float | Float[Tensor, " b"], seed: int
) -> Float[Tensor, "b ..."]:
    """A measurement :math:`y = H x + sigma_y e` of each picture, not clipped.

    The noise of picture i depends on ``seed`` and i alone, not on the rest of the batch; pixels
    that the operator does not measure stay zero.

    Args:
        x: clean pictures, image units.
        H: what is measured.
        noise: standard deviation of the noise, image units; one, or one for each picture.
        seed: the same seed gives the same noise.

    Raises:
        InputError: a noise level that is negative, not finite, or not one per picture.
    """
    levels = _noise_levels(noise, x)
    y = H(x)
    source = NoiseSource(stream_seeds(seed, [f"degrade/{index}" for index in range(len(x))]))
    e = source.normal(H.out_shape, x.dtype).to(x.device)
    return H.observed(y + levels.reshape(-1, *[1] * (y.ndim - 1)) * e)


def _noise_levels(
    noise: float | Float[Tensor, " b"], x: Float[Tensor, "b c h w"]
) -> Float[Tensor, " b"]:
    levels = torch.as_tensor(noise, dtype=x.dtype, device=x.device)
    if levels.ndim > 1 or (levels.ndim == 1 and len(levels) != len(x)):
        raise InputError(
            f"noise has shape {tuple(levels.shape)}; wanted one number, or one for each of the "
            f"{len(x)} pictures"
        )
    if not bool(((levels >= 0) & levels.isfinite()).all()):
        raise InputError(f"noise is {noise}; wanted standard deviations of at least 0, image units")
    return levels.expand(len(x))
