"""A source whose model is exact, small enough to be coded a thousand times."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from certes.diffusion.problems import GaussianProblem
from certes.diffusion.problems.gaussian import GaussianDenoiser
from certes.diffusion.rates import RateCurve
from certes.training.rates import measure_rates


@cache
def problem(side: int = 16, channels: int = 1) -> GaussianProblem:
    """A smooth field about mid-grey, with a little noise of its own."""
    axis = torch.arange(side, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    field = 0.12**2 * torch.exp(-torch.cdist(points, points) / 3)
    field += 0.01**2 * torch.eye(side**2, dtype=torch.float64)
    covariance = torch.block_diag(*(field for _ in range(channels)))
    mean = torch.full((channels, side, side), 0.5, dtype=torch.float64)
    return GaussianProblem(mean, covariance)


@cache
def source(side: int = 16, channels: int = 1) -> tuple[GaussianDenoiser, RateCurve]:
    """The exact denoiser, and its rates."""
    known = problem(side, channels)
    denoiser = known.denoiser()
    return denoiser, measure_rates(denoiser, known.sample(32, seed=0))


def pictures(count: int, side: int = 16, channels: int = 1) -> Tensor:
    """8-bit pictures of the source, float32."""
    drawn = problem(side, channels).sample(count, seed=1)
    return (drawn * 255).round().clamp(0, 255).float() / 255
