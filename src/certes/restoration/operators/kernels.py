"""Blur kernels: one-dimensional, used along both axes."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from certes.errors import InputError

_TRUNCATE = 4.0  # standard deviations, as scipy.ndimage.gaussian_filter1d


def gaussian_kernel(sigma: float) -> Float[Tensor, " taps"]:
    """A Gaussian of standard deviation ``sigma`` pixels, cut at 4 sigma; odd, summing to one."""
    if not (sigma > 0 and math.isfinite(sigma)):
        raise InputError(f"sigma is {sigma}; wanted a positive number of pixels")
    radius = int(_TRUNCATE * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    return weights / weights.sum()


def uniform_kernel(width: int) -> Float[Tensor, " taps"]:
    """``width`` equal taps summing to one."""
    if width < 1 or width != int(width):
        raise InputError(f"width is {width}; wanted a positive integer number of pixels")
    return torch.full((int(width),), 1 / width, dtype=torch.float64)
