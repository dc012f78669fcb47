"""The exact law of a sampler's answers, without any sampling, on small Gaussian problems."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from certes.diffusion.problems import GaussianProblem
from certes.diffusion.solvers.state import State
from certes.restoration.measurement import Measurement, SpectralMeasurement


def field(
    shape: tuple[int, int, int], tau: float, length: float, mean: float = 0.5
) -> GaussianProblem:
    """A correlated field: squared-exponential covariance of this length, channels independent."""
    channels, height, width = shape
    rows, columns = torch.arange(height).double(), torch.arange(width).double()
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).reshape(-1, 2)
    plane = torch.exp(-(torch.cdist(grid, grid) ** 2) / (2 * length**2))
    plane = tau**2 * (plane + 1e-6 * torch.eye(len(plane)))
    covariance = torch.block_diag(*[plane] * channels)
    return GaussianProblem(torch.full(shape, mean, dtype=torch.float64), covariance)


def last(states: Iterator[State]) -> State:
    *_, state = states
    return state


class Impulses:
    """A source of noise that gives every entry of every draw a batch item of its own.

    A sampler of a Gaussian problem is affine in its noise: item 0, which gets none, is the mean of
    its answers, and the others' differences from it are the columns of a root of the covariance.
    """

    def __init__(self, draws: int, size: int) -> None:
        self.draws, self.size, self.done = draws, size, 0

    def __len__(self) -> int:
        return 1 + self.draws * self.size

    def normal(self, shape: Sequence[int], dtype: torch.dtype = torch.float64) -> Tensor:
        assert math.prod(shape) == self.size
        assert self.done < self.draws
        out = torch.zeros(len(self), self.size, dtype=dtype)
        first = 1 + self.done * self.size
        out[first : first + self.size] = torch.eye(self.size, dtype=dtype)
        self.done += 1
        return out.reshape(-1, *shape)


def repeated(
    measurement: Measurement | SpectralMeasurement, count: int
) -> Measurement | SpectralMeasurement:
    """The whole batch ``count`` times, one copy after another."""
    if isinstance(measurement, Measurement):
        return measurement.repeat(count)
    levels = measurement.levels
    if len(levels) > 1:
        levels = levels.repeat(count, 1)
    return SpectralMeasurement(measurement.operator, measurement.values.repeat(count, 1), levels)


def law(
    sampler: Any,
    measurement: Measurement | SpectralMeasurement,
    denoiser: Any,
    levels: Tensor,
    **options: float,
):
    """Mean (n,) and covariance (n, n) of the answers to one measurement.

    Samplers draw once to start and once for every step.
    """
    impulses = Impulses(len(levels), measurement.operator.n)
    states = sampler(repeated(measurement, len(impulses)), denoiser, levels, impulses, **options)
    end = last(states).x.flatten(1)
    assert impulses.done == impulses.draws
    response = end[1:] - end[0]
    return end[0], response.T @ response
