"""Errors of scores bound the divergence of what is sampled, and only with each block's own g."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from certes.conditional.bound import ScoreErrors, score_matching_error
from certes.conditional.estimators import Estimator, cde, cdiffe, cmde
from certes.conditional.weighting import MaximumLikelihood, Velocity, Weighting
from certes.diffusion.denoiser import ConditionalDenoiser, JointlyDenoised
from certes.diffusion.problems import (
    ConditionalGaussian,
    ConditionalMixture,
    GaussianProblem,
    MixtureProblem,
)
from certes.diffusion.schedules import VE, VP, Schedule
from certes.errors import InputError
from certes.networks.conditional import Block

from .conftest import SHAPE, TAU, generator, mixing, pairs

UNITS = Block(channels=1)
X = VE(0.05, 5.0)
SLOW, FAST = VE(0.05, 0.5), VE(0.05, 50.0)

# One pixel of unit variance, a measurement of it, and an error of its scores: D z, divided in each
# block by 1 + sigma^2 as the scores themselves nearly are.
JOINT = torch.tensor([[1.0, 0.6], [0.6, 1.0]], dtype=torch.float64)
ERROR = torch.tensor([[0.01, 0.0], [0.1, -0.4]], dtype=torch.float64)


class Misprinted(Weighting):
    """Some printings' matrix: the picture's diffusion coefficient in both blocks."""

    def __init__(self, x: Schedule) -> None:
        self.x = x

    def __call__(self, schedule: Schedule, block: Block, t: Tensor) -> Tensor:
        return self.x.diffusion_squared(t)


class LinearError(ConditionalDenoiser):
    """A model with such scores; by Tweedie, answers are off by that times the variance."""

    def __init__(self, exact: ConditionalDenoiser) -> None:
        self.exact = exact

    def __call__(self, x: Tensor, sigma_x: Tensor, y: Tensor, sigma_y: Tensor) -> JointlyDenoised:
        known = self.exact(x, sigma_x, y, sigma_y)
        assert known.y is not None
        wrong_x, wrong_y = (torch.cat([x, y], dim=1).flatten(1) @ ERROR.T).unbind(1)
        off_x = sigma_x**2 / (1 + sigma_x**2) * wrong_x
        off_y = sigma_y**2 / (1 + sigma_y**2) * wrong_y
        mean = known.x.mean + off_x.reshape_as(x)
        return JointlyDenoised(replace(known.x, mean=mean), known.y + off_y.reshape_as(y))


def single_pixel() -> ConditionalGaussian:
    """The pair whose joint covariance is ``JOINT``."""
    problem = GaussianProblem(torch.zeros(1, 1, 1), JOINT[:1, :1])
    return ConditionalGaussian(problem, lambda x: 0.6 * x, math.sqrt(1 - 0.36))


def divergence(p: Tensor, q: Tensor) -> float:
    """Of N(0, p) from N(0, q), nats."""
    ratio = torch.linalg.solve(q, p)
    return float((ratio.trace() - len(p) - torch.logdet(ratio)) / 2)


def diagonals(estimator: Estimator, what: str, t: Tensor) -> Tensor:
    return torch.stack([getattr(part, what)(t) for part in (estimator.x, estimator.y)], dim=-1)


def noisy_covariance(estimator: Estimator, t: Tensor, joint: Tensor = JOINT) -> Tensor:
    return joint + torch.diag_embed(diagonals(estimator, "sigma", t) ** 2)


def error_at(estimator: Estimator, t: Tensor) -> Tensor:
    return ERROR / (1 + diagonals(estimator, "sigma", t) ** 2)[..., None]


def divergence_of_samples(estimator: Estimator, steps: int = 1500) -> float:
    """KL(p_0 || p_theta): the reverse process keeps Gaussians Gaussian, so that its covariance has
    an ordinary differential equation (Runge-Kutta 4 here)."""

    def change(t: Tensor, spread: Tensor) -> Tensor:
        g = torch.diag(diagonals(estimator, "diffusion_squared", t))
        score = error_at(estimator, t) - torch.linalg.inv(noisy_covariance(estimator, t))
        drift = g @ score
        return drift @ spread + spread @ drift.T + g  # per unit of time that runs backwards

    end = torch.tensor(1.0, dtype=torch.float64)
    spread = torch.diag(diagonals(estimator, "sigma", end) ** 2)
    h = 1 / steps
    for i in range(steps):
        t = end - i * h
        k1 = change(t, spread)
        k2 = change(t - h / 2, spread + h / 2 * k1)
        k3 = change(t - h / 2, spread + h / 2 * k2)
        k4 = change(t - h, spread + h * k3)
        spread = spread + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return divergence(noisy_covariance(estimator, 0 * end), spread)


def prior_gap(estimator: Estimator) -> float:
    """KL(p_1 || pi)."""
    end = torch.tensor(1.0, dtype=torch.float64)
    prior = torch.diag(diagonals(estimator, "sigma", end) ** 2)
    return divergence(noisy_covariance(estimator, end), prior)


def integral(estimator: Estimator, weighting: Weighting) -> float:
    r""":math:`\frac12 \int tr(\Lambda D S_t D^T) dt` by the midpoint rule."""
    t = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    wrong = error_at(estimator, t)
    squares = ((wrong @ noisy_covariance(estimator, t)) * wrong).sum(-1)
    weights = torch.stack([weighting(part, UNITS, t) for part in (estimator.x, estimator.y)], -1)
    return float((weights * squares).sum(-1).mean() / 2)


@pytest.mark.parametrize("y", [SLOW, X, FAST], ids=["slower", "as fast", "faster"])
def test_the_bound_holds_whichever_is_faster(y: VE) -> None:
    estimator = Estimator(X, y)
    reached = divergence_of_samples(estimator)
    assert reached > 1e-3
    assert reached <= prior_gap(estimator) + integral(estimator, MaximumLikelihood())


def test_the_misprinted_weighting_is_no_bound_where_y_is_faster() -> None:
    """Negative control."""
    estimator = Estimator(X, FAST)
    reached = divergence_of_samples(estimator)
    assert reached > 2 * (prior_gap(estimator) + integral(estimator, Misprinted(X)))


def test_the_misprinted_weighting_is_loose_where_y_is_slower() -> None:
    estimator = Estimator(X, SLOW)
    assert integral(estimator, Misprinted(X)) > 20 * integral(estimator, MaximumLikelihood())


@pytest.mark.parametrize("y", [SLOW, FAST], ids=["slower", "faster"])
def test_the_estimate_is_the_integral(y: VE) -> None:
    estimator, problem = Estimator(X, y), single_pixel()
    pair = problem.sample(5000, seed=1)
    exact = problem.denoiser()
    for weighting in (None, Misprinted(X)):
        measured = score_matching_error(
            estimator, LinearError(exact), exact, pair, generator(2), weighting
        )
        expected = integral(estimator, weighting or MaximumLikelihood())
        assert 0 < measured.standard_error < 0.1 * expected
        assert abs(measured.nats - expected) < 4 * measured.standard_error


def test_the_standard_error_is_the_spread_of_estimates() -> None:
    estimator, problem = Estimator(X, SLOW), single_pixel()
    exact, expected = problem.denoiser(), integral(estimator, MaximumLikelihood())
    scores = []
    for seed in range(100):
        pair = problem.sample(100, seed)
        measured = score_matching_error(
            estimator, LinearError(exact), exact, pair, generator(seed), times=12
        )
        scores.append((measured.nats - expected) / measured.standard_error)
    assert torch.tensor(scores).std() == pytest.approx(1, abs=0.2)


def mixtures() -> tuple[ConditionalMixture, ConditionalMixture]:
    """Two laws of pairs that are not Gaussian."""

    def law(weights: list[float], shift: float, scale: float, noise: float) -> ConditionalMixture:
        means = torch.tensor([[0.2, 0.3], [0.6, 0.4]]).reshape(2, *SHAPE) + shift
        covariances = scale * torch.tensor([[[0.01, 0.004], [0.004, 0.02]]]).repeat(2, 1, 1)
        problem = MixtureProblem(torch.tensor(weights), means, covariances)
        return ConditionalMixture(problem, mixing, noise)

    return law([0.3, 0.7], 0.0, 1.0, TAU), law([0.6, 0.4], 0.03, 1.3, 0.2)


ESTIMATORS = {
    "cde": cde(X),
    "cdiffe": cdiffe(X),
    "cmde": cmde(X, 0.5, sigma_min=0.05),
    "y faster": cmde(X, 50.0, sigma_min=0.05),
    "x variance-preserving": Estimator(VP(), VE(0.05, 1.0)),
}


def log_ratios(
    p: ConditionalGaussian | ConditionalMixture,
    q: ConditionalGaussian | ConditionalMixture,
    estimator: Estimator,
    t: float,
    pair: tuple[Tensor, Tensor],
) -> Tensor:
    """Of the densities of noisy pairs of ``p``; their mean is KL(p_t || q_t)."""
    noisy: list[Tensor | float] = []
    for schedule, clean in zip((estimator.x, estimator.y), pair, strict=True):
        level = float(schedule.noise_level(t))
        noise = torch.randn(clean.shape, generator=generator(5 + len(noisy)), dtype=clean.dtype)
        noisy += [clean + level * noise, level]
    x, level_x, y, level_y = noisy
    assert isinstance(x, Tensor)
    assert isinstance(y, Tensor)
    return p.log_joint(x, level_x, y, level_y) - q.log_joint(x, level_x, y, level_y)


def misfit(estimator: Estimator, p: Any, q: Any, weighting: Weighting) -> float:
    """Of the integral from the divergence that is lost on the way, in standard errors.

    A condition that stays clean has the same evidence at both ends, which drops out.
    """
    pair = p.sample(4000, seed=3)
    lost = log_ratios(p, q, estimator, 0.0, pair) - log_ratios(p, q, estimator, 1.0, pair)
    measured = score_matching_error(
        estimator, q.denoiser(), p.denoiser(), pair, generator(4), weighting
    )
    assert measured.nats > 5 * measured.standard_error
    gap = measured.x + measured.y - lost
    return float(gap.mean().abs() / gap.std() * len(gap) ** 0.5)


@pytest.mark.parametrize("kind", ["gaussian", "mixture"])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_it_is_an_equality_for_the_scores_of_another_law(name: str, kind: str) -> None:
    """Time reversal undoes the diffusion of any law: no divergence is lost on the way."""
    estimator = ESTIMATORS[name]
    p, q = mixtures() if kind == "mixture" else (pairs(), pairs(1.2, mean=0.45, noise=0.2))
    assert misfit(estimator, p, q, MaximumLikelihood()) < 4
    if estimator.predicts_y and estimator.y != estimator.x:  # negative control
        assert misfit(estimator, p, q, Misprinted(estimator.x)) > 8


class Exploding(Weighting):
    """Negative control: as if the signal did not shrink with the noise."""

    def __call__(self, schedule: Schedule, block: Block, t: Tensor) -> Tensor:
        return schedule.diffusion_squared(t) / schedule.alpha(t) ** 2


def test_scores_are_those_of_the_shrunken_signal() -> None:
    """Pictures so wide that it matters."""
    p, q = pairs(10.0, noise=3.0), pairs(14.0, noise=3.0)
    assert misfit(cde(VP()), p, q, MaximumLikelihood()) < 4
    assert misfit(cde(VP()), p, q, Exploding()) > 8


def test_a_perfect_model_has_no_errors() -> None:
    problem = pairs()
    exact = problem.denoiser()
    measured = score_matching_error(cmde(X, 1.0), exact, exact, problem.sample(50, 0), generator())
    assert measured.nats == measured.standard_error == 0


def test_a_clean_condition_costs_nothing() -> None:
    problem, other = pairs(), pairs(1.2)
    measured = score_matching_error(
        cde(X), other.denoiser(), problem.denoiser(), problem.sample(50, 0), generator()
    )
    assert not measured.y.any()
    assert measured.x.all()
    assert measured.nats == pytest.approx(float(measured.x.mean()))


def test_draws_of_both_blocks_are_added() -> None:
    errors = ScoreErrors(torch.tensor([1.0, 2.0]), torch.tensor([0.5, 1.5]))
    assert errors.nats == 2.5
    assert errors.standard_error == pytest.approx(1.0)


def test_single_precision_changes_nothing_to_speak_of() -> None:
    problem, other = pairs(), pairs(1.2)
    x, y = problem.sample(2000, 0)
    exact, model = problem.denoiser(), other.denoiser()
    estimator = replace(cmde(X, 1.0), weighting=Velocity())
    single = score_matching_error(estimator, model, exact, (x.float(), y.float()), generator())
    double = score_matching_error(estimator, model, exact, (x, y), generator())
    assert single.x.dtype == torch.float64
    assert single.nats == pytest.approx(double.nats, rel=0.1)  # other random numbers, too


def test_models_of_the_picture_alone_are_refused() -> None:
    class Alone(ConditionalDenoiser):
        def __call__(
            self, x: Tensor, sigma_x: Tensor, y: Tensor, sigma_y: Tensor
        ) -> JointlyDenoised:
            return JointlyDenoised(exact(x, sigma_x, y, sigma_y).x)

    problem = pairs()
    exact, pair = problem.denoiser(), problem.sample(4, 0)
    with pytest.raises(InputError, match="denoiser: does not estimate the condition"):
        score_matching_error(cmde(X, 1.0), Alone(), exact, pair, generator())
    assert score_matching_error(cde(X), Alone(), exact, pair, generator()).nats == 0
