"""Measure what a trained network expects to spend, noise level by noise level."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.likelihood import log_probability
from certes.diffusion.noise import stream_seeds
from certes.diffusion.rates import RateCurve, error_variance

# Image units: from a quarter of a grey level to where nothing of a picture is left to see.
LEVELS = torch.logspace(-3, 1, 33, dtype=torch.float64)
_CHUNK = 64
# Bits that a codec pays at most for a pixel: some are always where its Gaussian has no mass.
_WORST = 17


def measure_rates(
    denoiser: Denoiser,
    patches: Float[Tensor, "b c s s"],
    levels: Float[Tensor, " l"] = LEVELS,
    seed: int = 0,
) -> RateCurve:
    """The squared error at each noise level, and the bits of coding 8-bit pictures from there.

    Args:
        denoiser: a trained network, a model, or any other denoiser.
        patches: training pictures, image units; they are rounded to 8 bits for the tail. A hundred
            give about 2 % accuracy.
        levels: noise levels, increasing, image units.
        seed: of the noise.
    """
    rows = [_measured(denoiser, patches, float(level), seed) for level in levels]
    mse, tail = torch.tensor(rows, dtype=torch.float64).unbind(1)
    return RateCurve(levels, mse, tail)


def _measured(
    denoiser: Denoiser, patches: Float[Tensor, "b c s s"], level: float, seed: int
) -> tuple[float, float]:
    """Mean squared error and bits of the tail, per value."""
    (stream,) = stream_seeds(seed, [f"rates {level:.6g}"])
    generator = torch.Generator().manual_seed(stream)
    device = denoiser.device or patches.device
    error, bits = 0.0, 0.0
    for part in torch.split(patches, _CHUNK):
        x0 = (part * 255).round().clamp(0, 255) / 255
        x = x0 + level * torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
        sigma = torch.full((len(x0),), level, dtype=x0.dtype, device=device)
        denoised = denoiser(x.to(device), sigma)
        squared = (denoised.mean.cpu().double() - x0).square()
        variance = error_variance(denoiser, denoised, sigma, squared.mean()).cpu()
        log_p = log_probability(x0, denoised.mean.cpu(), variance.sqrt())
        error += float(squared.sum())
        bits += float(-log_p.clamp(min=-_WORST * math.log(2)).sum()) / math.log(2)
    return error / patches.numel(), bits / patches.numel()
