"""What networks predict: each target is what its paper says, and is read back exactly."""

from __future__ import annotations

import pytest
import torch

from certes.diffusion.parametrisation import Parametrisation
from certes.diffusion.schedules import VE, Cosine, linear_betas
from certes.errors import ModelError

TABLE = linear_betas()
T = torch.tensor([0.001, 0.002, 0.4, 1.0], dtype=torch.float64)
ALPHA, SIGMA = (f(T)[:, None, None, None] for f in (TABLE.alpha, TABLE.sigma))


def posterior_mean(x0: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
    """Ho et al. 2020, equation 7, in the letters of the paper; the first step's is x_0."""
    betas = torch.tensor(TABLE.betas, dtype=torch.float64)
    bars = (1 - betas).cumprod(0)
    index = TABLE.index(T).round().long()
    beta, bar = betas[index], bars[index]
    before = torch.where(index > 0, bars[(index - 1).clamp(min=0)], 1.0)
    x_t = ALPHA * x0 + SIGMA * e
    x0_weight = before.sqrt() * beta / (1 - bar)
    x_weight = (1 - beta).sqrt() * (1 - before) / (1 - bar)
    return x0_weight[:, None, None, None] * x0 + x_weight[:, None, None, None] * x_t


TARGETS = {
    "noise": lambda x0, e: e,
    "x0": lambda x0, e: x0,
    "v": lambda x0, e: ALPHA * e - SIGMA * x0,
    "score": lambda x0, e: -e / SIGMA,
    "mean": posterior_mean,
}


@pytest.mark.parametrize("name", TARGETS)
def test_targets_and_their_inverse(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x0, e, error = torch.randn(3, 4, 2, 3, 5, generator=generator, dtype=torch.float64)
    x_t = ALPHA * x0 + SIGMA * e
    parametrisation = Parametrisation(name)
    target = parametrisation.target(x_t, x0, TABLE, T)
    torch.testing.assert_close(target, TARGETS[name](x0, e), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(parametrisation.x0(x_t, target, TABLE, T), x0, rtol=1e-7, atol=1e-9)
    # An error of the prediction is an error of x_0, divided by b.
    _, b = parametrisation.coefficients(TABLE, T)
    off = parametrisation.x0(x_t, target + error, TABLE, T) - x0
    torch.testing.assert_close(off, error / b[:, None, None, None], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["noise", "x0", "v", "score"])
def test_processes_that_grow(name: str) -> None:
    schedule, t = VE(0.01, 50.0), torch.tensor([0.1, 0.9], dtype=torch.float64)
    x0, e = torch.randn(2, 2, 1, 2, 2, dtype=torch.float64)
    x_t = x0 + schedule.sigma(t)[:, None, None, None] * e
    parametrisation = Parametrisation(name)
    target = parametrisation.target(x_t, x0, schedule, t)
    torch.testing.assert_close(parametrisation.x0(x_t, target, schedule, t), x0, atol=1e-9, rtol=0)


def test_unknown_prediction() -> None:
    with pytest.raises(ModelError, match="'flow'; give one of noise, x0, v, score, mean"):
        Parametrisation("flow")


def test_posterior_means_belong_to_tables() -> None:
    with pytest.raises(ModelError, match="'mean' is that of one step of a table"):
        Parametrisation("mean").coefficients(Cosine(), T)
