"""Nearly clean measurements: the last step, which adds no noise, must not swallow the spread."""

from __future__ import annotations

import pytest
import torch

from certes.diffusion.problems import GaussianProblem
from certes.restoration import restore
from certes.restoration.operators import Denoise

SHAPE = (1, 4, 4)


@pytest.mark.parametrize("noise", [0.002, 0.004, 0.008, 0.05])
def test_the_spread_survives_at_every_noise(noise: float) -> None:
    mean = torch.full(SHAPE, 0.5, dtype=torch.float64)
    problem = GaussianProblem(mean, 0.1**2 * torch.eye(16, dtype=torch.float64))
    H, x = Denoise(SHAPE), problem.sample(8, seed=1).float()
    y = x + noise * torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    posterior = restore(y, H, problem.denoiser(), noise=noise, samples=100)
    _, covariance = problem.posterior(y, H, noise)
    ratio = posterior.std / covariance.diagonal().sqrt().float().reshape(SHAPE)
    assert float(ratio.mean()) == pytest.approx(1, abs=0.05)
