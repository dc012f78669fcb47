"""Measured errors and tails of Gaussian pictures, for which both are known."""

from __future__ import annotations

import math

import pytest
import torch

from certes.diffusion.problems import GaussianProblem
from certes.training.rates import measure_rates

SIDE, COUNT = 8, 400


@pytest.fixture(scope="module")
def problem() -> GaussianProblem:
    axis = torch.arange(SIDE, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    covariance = 0.1**2 * torch.exp(-torch.cdist(points, points) / 3)
    return GaussianProblem(torch.full((1, SIDE, SIDE), 0.5, dtype=torch.float64), covariance)


def test_errors_and_tails(problem: GaussianProblem) -> None:
    levels = torch.tensor([0.01, 0.1, 1.0], dtype=torch.float64)
    rates = measure_rates(problem.denoiser(), problem.sample(COUNT, 0), levels)
    noise = levels[:, None] ** 2
    mse = (problem.eigenvalues * noise / (problem.eigenvalues + noise)).mean(dim=1)
    # Rounding to 8 bits adds its own error; 25,600 values give 1 % (more where they hang together).
    expected = mse + 1 / 12 / 255**2
    torch.testing.assert_close(rates.mse, expected, rtol=0.05, atol=0)
    # A Gaussian wide against a grey level takes log2(deviation * sqrt(2 pi e)) bits.
    entropy = torch.log2(255 * mse.sqrt() * math.sqrt(2 * math.pi * math.e))
    torch.testing.assert_close(rates.tail, entropy, rtol=0, atol=0.04)


def test_seeds(problem: GaussianProblem) -> None:
    levels, patches = torch.tensor([0.05, 0.3], dtype=torch.float64), problem.sample(70, 0)
    first, again, other = (
        measure_rates(problem.denoiser(), patches, levels, seed).mse for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
