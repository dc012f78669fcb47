r"""A convolution kernel as a function of physical distance, whatever the lattice.

The kernel reads a function at the offsets :math:`j \in \{-m, ..., m\}^2`, one training pixel apart,

.. math:: (K v)(c) = \sum_j \kappa_j\, v(c - j),

and a lattice knows :math:`v` at its own pixels: between them it is interpolated linearly. On
lattices whose pitch is 1 or divides it evenly every offset falls on a pixel, so that nothing is
interpolated: the same function gives the same answer at every resolution. On others the error is
of second order in the pitch. (The original resizes its 7 x 7 weights as if they were a picture,
which is off by 1 to 4 per cent, or, in its dense variant, not at all.)
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

_EXACT = 1e-6


def refinement(pitch: float) -> int | None:
    """How many pixels of a lattice make a unit, if that is a whole number."""
    whole = round(1 / pitch)
    return whole if whole >= 1 and abs(whole * pitch - 1) < _EXACT else None


def tap_weights(reach: int, pitch: float) -> Float[Tensor, "taps offsets"]:
    """Weights of linear interpolation: what each pixel contributes to each offset, float64.

    Args:
        reach: m, the farthest offset.
        pitch: length of a pixel.
    """
    farthest = math.ceil(reach / pitch - _EXACT)
    pixels = torch.arange(-farthest, farthest + 1, dtype=torch.float64)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    return (1 - (offsets[None, :] / pitch - pixels[:, None]).abs()).clamp(min=0)


def lattice_kernel(table: Float[Tensor, "*c k k"], pitch: float) -> Float[Tensor, "*c taps taps"]:
    """What the kernel is on a lattice: the interpolation is moved from pictures to weights.

    Args:
        table: weights at the offsets.
        pitch: length of a pixel.
    """
    if pitch == 1:
        return table
    weights = tap_weights(table.shape[-1] // 2, pitch).to(table)
    return weights @ table @ weights.T
