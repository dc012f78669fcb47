"""Defects of published conditional samplers, each beside what is done here."""

from __future__ import annotations

import pytest
import torch

from certes.conditional.estimators import cde
from certes.conditional.policies import GivenCondition
from certes.conditional.sampling import draw_given
from certes.diffusion.noise import NoiseSource
from certes.diffusion.schedules import VE
from certes.diffusion.solvers.sampling import ReverseChain

from .conftest import SHAPE, pairs

COUNT = 1000


def off() -> float:
    """Of ancestral samples for one condition: the mean's distance from the posterior's, in its
    deviations, or the spread's from 1, whichever is larger."""
    problem = pairs()
    _, measured = problem.sample(1, 5)
    mean, covariance = problem.posterior(measured)
    noise, y = NoiseSource(range(COUNT)), measured.expand(COUNT, -1, -1, -1)
    estimator, chain = cde(VE(0.002, 28.0)), ReverseChain("ancestral", 150)
    *_, last = draw_given(problem.denoiser(), estimator, y, SHAPE, noise, chain)
    spread, found = covariance.diagonal().sqrt(), last.x.flatten(1)
    shift = (found.mean(0) - mean.flatten()) / spread
    return float(torch.cat([shift, found.std(0) / spread - 1]).abs().max())


def test_defect_a_predictor_that_is_not_given_y(monkeypatch: pytest.MonkeyPatch) -> None:
    """The original's ancestral predictor has no argument for y, and stops. One that ran without it
    would draw pictures of any condition."""
    assert off() < 0.15
    unconditional = pairs().problem.denoiser()
    monkeypatch.setattr(GivenCondition, "__call__", lambda self, x, sigma: unconditional(x, sigma))
    assert off() > 0.5
