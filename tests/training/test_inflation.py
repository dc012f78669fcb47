"""The spread-error ratio: one for an exact denoiser, more for one that shares its mistakes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from certes.diffusion.denoiser import Denoised
from certes.diffusion.problems import GaussianProblem
from certes.networks.denoiser import NetworkDenoiser
from certes.training.inflation import measure_inflation

SHAPE = (1, 6, 6)


class Biased(NetworkDenoiser):
    """An exact denoiser that is off by ``mistake``, always in the same way."""

    def __init__(self, problem: GaussianProblem, mistake: float) -> None:
        self.exact = problem.denoiser()
        self.mistake = mistake

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def __call__(self, x: Tensor, sigma: Tensor) -> Denoised:
        return Denoised(self.exact(x, sigma).mean + self.mistake)


def problem() -> GaussianProblem:
    mean = torch.full(SHAPE, 0.5, dtype=torch.float64)
    return GaussianProblem(mean, 0.1**2 * torch.eye(36, dtype=torch.float64))


def test_exact_denoisers_need_no_inflation() -> None:
    pictures = problem().sample(64, seed=3).float()
    assert measure_inflation(Biased(problem(), 0.0), pictures) == pytest.approx(1, abs=0.03)


def test_shared_mistakes_show() -> None:
    pictures = problem().sample(64, seed=3).float()
    assert measure_inflation(Biased(problem(), 0.05), pictures) > 1.2
