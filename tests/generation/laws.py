"""Gaussian pictures whose every conditional law is known, and a test of laws."""

from __future__ import annotations

import torch

from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.problems import GaussianProblem

SHAPE = (1, 2, 3)
MEAN = torch.linspace(0.3, 0.7, 6, dtype=torch.float64).reshape(SHAPE)

Covariance = torch.Tensor


def correlated() -> GaussianProblem:
    generator = torch.Generator().manual_seed(3)
    a = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    return GaussianProblem(MEAN, 0.04 * (a @ a.mT / 6 + 0.1 * torch.eye(6, dtype=torch.float64)))


def diagonal() -> GaussianProblem:
    """Pixels apart: with the variance learned, an ancestral step of any length is exact."""
    return GaussianProblem(MEAN, torch.diag(torch.logspace(-3, -1, 6, dtype=torch.float64)))


def given(
    problem: GaussianProblem, x_t: torch.Tensor, level: float
) -> tuple[torch.Tensor, Covariance]:
    """Mean (n,) and covariance of p(x_0 | x_t), by the textbook formula."""
    sigma = problem.covariance
    gain = sigma @ torch.linalg.inv(sigma + level**2 * torch.eye(6, dtype=torch.float64))
    mean = problem.mean.flatten() + gain @ (x_t.double() - problem.mean).flatten()
    return mean, sigma - gain @ sigma


def fits(draws: torch.Tensor, mean: torch.Tensor, covariance: Covariance) -> bool:
    """Whether draws (n, ...) have this mean and covariance, within five standard errors."""
    flat = draws.double().flatten(1)
    variance = covariance.diagonal()
    centred = flat - mean.flatten()
    found = centred.T @ centred / len(flat)
    error = ((variance[:, None] * variance + covariance**2) / len(flat)).sqrt()
    mean_fits = (centred.mean(dim=0).abs() < 5 * (variance / len(flat)).sqrt()).all()
    return bool(mean_fits and ((found - covariance).abs() < 5 * error).all())


class Recorder(Denoiser):
    """A denoiser that remembers what it was asked."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser
        self.asked: list[torch.Tensor] = []
        self.levels: list[float] = []

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> Denoised:
        self.asked.append(x)
        self.levels.append(float(sigma[0]))
        return self.denoiser(x, sigma)

    def covariance(self, denoised: Denoised, sigma: torch.Tensor):
        return self.denoiser.covariance(denoised, sigma)
