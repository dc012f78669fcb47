"""Defects of published diffusions, each beside what is done here."""

from __future__ import annotations

import pytest
import torch

from certes.diffusion.likelihood import terms, variational_bound
from certes.diffusion.problems import GaussianProblem
from certes.diffusion.process import Process
from certes.diffusion.schedules import linear_betas


def test_defect_a_schedule_in_the_precision_of_the_pictures() -> None:
    """1 - abar in bfloat16 is zero for the first ten steps: clean pictures, trained on as noisy."""
    table, x0 = linear_betas(), torch.full((1, 1, 2, 2), 0.25, dtype=torch.bfloat16)
    process = Process(table, center=0.5, scale=0.5)
    for index in range(1000):
        t = table.time_of_index(index)
        _, std = process.marginal(x0, t)
        assert std.dtype == torch.bfloat16
        assert float(std) == pytest.approx(float(table.sigma(t)), rel=2**-8)
    bars = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), dim=0)
    cast = (1 - bars.to(torch.bfloat16)).sqrt()
    assert cast.eq(0).nonzero().flatten().tolist() == list(range(10))


def decoding(decoder: str) -> float:
    """Bits per dimension of the last step of the bound, with the small fixed variance."""
    problem = GaussianProblem(
        torch.full((1, 2, 2), 0.5, dtype=torch.float64), 0.04 * torch.eye(4, dtype=torch.float64)
    )
    x0 = (problem.sample(200, seed=1).clamp(0, 1) * 255).round() / 255
    table = linear_betas()
    times = torch.cat([table.time_of_index(torch.tensor([999, 1, 0])), torch.zeros(1)])
    process = Process(table, center=0.5, scale=0.5)
    bounds = variational_bound(
        process,
        problem.denoiser(),
        x0,
        times,
        ("small",),
        decoder=decoder,  # pyright: ignore
    )
    return bounds["small"].distortion


def test_defect_a_decoder_without_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    """The posterior variance of the first step is 0; held at 1e-20 instead of its neighbour's, a
    grey level that is missed by rounding costs all that the floor of 1e-12 allows."""
    for decoder in ("exact", "paper"):
        assert 1 < decoding(decoder) < 4
    tiny = torch.tensor(1e-20, dtype=torch.float64)
    monkeypatch.setattr(terms, "reverse_variance", lambda *arguments: tiny)
    assert decoding("paper") > 15
    assert decoding("exact") > 1e6
