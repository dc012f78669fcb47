"""The loss of pairs is minimised by the conditional scores, whatever its weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from certes.conditional.estimators import Estimator, cde, cdiffe, cmde
from certes.conditional.objective import NoisyPairs, ScoreMatching, noisy_pairs, velocity_weight
from certes.conditional.weighting import WEIGHTINGS, Epsilon, MaximumLikelihood, Velocity
from certes.diffusion.denoiser import JointlyDenoised
from certes.diffusion.problems import ConditionalGaussian
from certes.diffusion.schedules import VE, VP
from certes.networks.conditional import Block, ConditionalNetworkDenoiser
from certes.training.times import Drawn

from .conftest import denoiser_of, generator, pairs, tensor

X = VE(0.01, 3.0)
ESTIMATORS = {"cde": cde(X), "cdiffe": cdiffe(X), "cmde": cmde(X, 0.5)}
TIMES = tensor(0.45, 0.6, 0.75)
BLOCKS = Block(1, 0.4, 0.3), Block(1, 0.35, 0.25)
# One pair of 1 x 2 pixels: four numbers seen, and a one.
SEEN = 5

Spoil = Callable[[NoisyPairs], NoisyPairs]


def unspoilt(batch: NoisyPairs) -> NoisyPairs:
    return batch


def swapped(batch: NoisyPairs) -> NoisyPairs:
    """The picture's target for the condition and the other way round."""
    return replace(batch, target=batch.target.flip(1))


def clean_condition(batch: NoisyPairs) -> NoisyPairs:
    """The condition without its noise."""
    return replace(batch, x_t=torch.cat([batch.x_t[:, :1], batch.z0[:, 1:]], dim=1))


@dataclass(frozen=True)
class Linear:
    """An affine map for each of ``TIMES``; which one, is told by the noise level of x."""

    told: Tensor
    weights: Tensor  # (outputs, times * SEEN)

    def __call__(self, x: Tensor, told: Tensor) -> Tensor:
        which = (told[:, :1].double() - self.told).abs().argmin(1)
        seen = torch.cat([x.flatten(1), torch.ones_like(x[:, :1, 0, 0])], dim=1)
        chosen = torch.nn.functional.one_hot(which, len(self.told)).to(x)
        features = (chosen[:, :, None] * seen[:, None]).flatten(1)
        return (features @ self.weights.T).reshape(len(x), -1, 1, 2)


def fitted(
    estimator: Estimator, problem: ConditionalGaussian, count: int, spoil: Spoil, seed: int = 0
) -> ConditionalNetworkDenoiser:
    """Least squares by the real loss: one Newton step minimises what is quadratic."""

    levels = BLOCKS[0].told(estimator.x.noise_level(TIMES))

    def model(weights: Tensor) -> ConditionalNetworkDenoiser:
        return denoiser_of(Linear(levels, weights), *BLOCKS, estimator.predicts_y)

    start = torch.zeros(2 + 2 * estimator.predicts_y, len(TIMES) * SEEN, dtype=torch.float64)
    t = TIMES.repeat(count // len(TIMES) + 1)[:count]
    drawn = Drawn(t, torch.ones_like(t))
    denoiser = model(start)
    pair = problem.sample(count, seed + 1)
    batch = spoil(noisy_pairs(denoiser, estimator, pair, drawn, generator(seed)))
    criterion = ScoreMatching(denoiser)

    def loss(weights: Tensor) -> Tensor:
        output = Linear(levels, weights)(batch.x_t, batch.conditioning)
        return criterion(output, batch).each.mean()

    gradient = torch.func.grad(loss)(start).flatten()
    hessian = torch.func.hessian(loss)(start).reshape(start.numel(), start.numel())
    return model(-torch.linalg.solve(hessian, gradient).reshape_as(start))


def scores(answer: JointlyDenoised, asked: list[Tensor]) -> list[Tensor]:
    x, level_x, y, level_y = asked
    columns = level_x[:, None, None, None], level_y[:, None, None, None]
    known = [(answer.x.mean - x) / columns[0] ** 2]
    if answer.y is not None and bool(level_y.any()):
        known.append((answer.y - y) / columns[1] ** 2)
    return known


def misfit(
    estimator: Estimator, problem: ConditionalGaussian, denoiser: ConditionalNetworkDenoiser
) -> Tensor:
    """Squared errors of the scores, relative to their squares, a row for each time; of x, y."""
    rows: list[Tensor] = []
    for t in TIMES:
        asked: list[Tensor] = []
        for seed, (part, clean) in enumerate(
            zip((estimator.x, estimator.y), problem.sample(2000, 99), strict=True)
        ):
            noise = torch.randn(clean.shape, generator=generator(70 + seed), dtype=clean.dtype)
            level = part.noise_level(t).expand(len(clean))
            asked += [clean + level[:, None, None, None] * noise, level]
        found, true = (scores(model(*asked), asked) for model in (denoiser, problem.denoiser()))
        found = found[: len(true)]
        errors = [
            (f - s).square().mean() / s.square().mean() for f, s in zip(found, true, strict=False)
        ]
        rows.append(torch.stack(errors))
    return torch.stack(rows)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_minimiser_is_the_conditional_score(name: str) -> None:
    """Theorem 1: and the error of least squares on N pairs falls as 1 / N."""
    estimator, problem = ESTIMATORS[name], pairs()
    few, many = (
        torch.stack(
            [
                misfit(estimator, problem, fitted(estimator, problem, n, unspoilt, seed))
                for seed in range(3)
            ]
        ).mean(0)
        for n in (1000, 30_000)
    )
    assert few.shape == (3, 1 + estimator.predicts_y)
    assert (many[:, 0] < 1e-3).all()
    assert (many < 0.05).all()
    assert 12 < few.mean() / many.mean() < 75
    assert 15 < (few / many).log().mean().exp() < 60  # 30, but for chance


@pytest.mark.parametrize("spoil", [swapped, clean_condition])
def test_other_targets_or_conditions_have_other_minimisers(spoil: Spoil) -> None:
    """Negative controls of the test above."""
    estimator, problem = ESTIMATORS["cmde"], pairs()
    right = misfit(estimator, problem, fitted(estimator, problem, 20_000, unspoilt))
    wrong = misfit(estimator, problem, fitted(estimator, problem, 20_000, spoil))
    assert (wrong[:, 1] > 20 * right[:, 1]).all()
    assert (wrong[:, 1] > 0.5).all()


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_every_weighting_has_the_same_minimiser(name: str) -> None:
    estimator = replace(ESTIMATORS["cmde"], weighting=WEIGHTINGS[name])
    problem = pairs()
    asked = [*problem.sample(5, 0)]
    levels = [part.noise_level(TIMES[1:2]).expand(5) for part in (estimator.x, estimator.y)]
    plain, other = (
        fitted(choice, problem, 3000, unspoilt)(asked[0], levels[0], asked[1], levels[1])
        for choice in (ESTIMATORS["cmde"], estimator)
    )
    torch.testing.assert_close(other.x.mean, plain.x.mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(other.y, plain.y, rtol=1e-4, atol=1e-5)


def zero(x: Tensor, told: Tensor) -> Tensor:
    return torch.zeros_like(x)


@pytest.mark.parametrize("x", [X, VP()], ids=["ve", "vp"])
@pytest.mark.parametrize("name", WEIGHTINGS)
def test_the_loss_is_that_of_the_scores(name: str, x: VE | VP) -> None:
    r""":math:`\sum_b \lambda_b | s_b + e_b / \sigma_b |^2 / n`, whatever the network answers."""
    estimator = Estimator(x, VE(0.05, 0.7), WEIGHTINGS[name])
    problem = pairs()
    pair = problem.sample(6, 0)
    t = torch.linspace(0.2, 0.9, 6, dtype=torch.float64)
    denoiser = denoiser_of(zero, *BLOCKS)
    batch = noisy_pairs(denoiser, estimator, pair, Drawn(t, torch.ones_like(t)), generator(3))
    answer = torch.randn(6, 2, 1, 2, generator=generator(4), dtype=torch.float64)
    losses = ScoreMatching(denoiser)(answer, batch)

    expected, first = torch.zeros(6, dtype=torch.float64), generator(3)
    for b, (block, schedule) in enumerate(zip(BLOCKS, (estimator.x, estimator.y), strict=True)):
        noise = torch.randn(6, 1, 1, 2, generator=first).double()
        level, alpha, sigma = (f(t) for f in (schedule.noise_level, schedule.alpha, schedule.sigma))
        x_t = alpha[:, None, None, None] * (pair[b] + level[:, None, None, None] * noise)
        mean = block.clean(batch.x_t[:, b : b + 1], answer[:, b : b + 1], level)
        variance = sigma[:, None, None, None] ** 2
        score = (alpha[:, None, None, None] * mean - x_t) / variance
        error = score + noise / variance.sqrt()
        weight = estimator.weighting(schedule, block, t)
        expected += weight * error.square().sum(dim=(1, 2, 3)) / 4
    torch.testing.assert_close(losses.each.double(), expected, rtol=1e-4, atol=1e-6)
    squared = (answer[:, :1].float() - batch.target[:, :1]).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(losses.simple, squared)
    assert not losses.variance.any()


def test_weights_of_the_velocity() -> None:
    """One for the weighting named after it; the others follow from the units."""
    block, t = Block(1, 0.5, 0.25), tensor(0.1, 0.5, 0.9)
    sigma = X.sigma(t)
    rho = sigma / 0.25
    for weighting, expected in (
        (Velocity(), torch.ones(3, dtype=torch.float64)),
        (Epsilon(), 1 / (1 + rho**2)),
        (MaximumLikelihood(), X.diffusion_squared(t) / (sigma**2 * (1 + rho**2))),
    ):
        weight = velocity_weight(replace(cde(X), weighting=weighting), X, block, t)
        torch.testing.assert_close(weight, expected)


def test_a_clean_condition_has_no_target() -> None:
    denoiser = denoiser_of(zero, *BLOCKS, predicts_y=False)
    pair = pairs().sample(4, 0)
    t = tensor(0.1, 0.4, 0.6, 0.9)
    batch = noisy_pairs(denoiser, cde(X), pair, Drawn(t, torch.ones_like(t)), generator())
    assert batch.target.shape == (4, 1, 1, 2)
    assert torch.equal(batch.x_t[:, 1:], batch.z0[:, 1:])
    assert torch.equal(batch.z0[:, 1:], BLOCKS[1].normalised(pair[1]))
    assert (batch.conditioning[:, 1] == batch.conditioning[0, 1]).all()
    assert (batch.conditioning[:, 0].diff() > 0).all()


def test_blocks_share_the_time_and_not_the_noise() -> None:
    estimator, denoiser = cdiffe(X), denoiser_of(zero, *BLOCKS)
    blank = torch.zeros(20_000, 1, 1, 2, dtype=torch.float64)
    t = torch.full((len(blank),), 0.6, dtype=torch.float64)
    drawn = Drawn(t, torch.ones_like(t))
    batch = noisy_pairs(denoiser, estimator, (blank, blank), drawn, generator())
    values = (batch.x_t - batch.x_t.mean(0)).flatten(1)
    correlation = torch.corrcoef(values.T) - torch.eye(4)
    assert correlation.abs().max() < 5 / len(blank) ** 0.5
    for b, block in enumerate(BLOCKS):
        rho = block.ratio(estimator.x.sigma(t[:1]))
        expected = rho / (1 + rho**2).sqrt()
        assert values[:, 2 * b].std() == pytest.approx(float(expected), rel=0.03)


def test_it_has_nothing_to_learn() -> None:
    criterion = ScoreMatching(denoiser_of(zero, *BLOCKS))
    criterion.learn(tensor(0.5), tensor(1.0))
    assert criterion.moments is None


@pytest.mark.parametrize("share", [0.05, 3.0])
def test_a_share_weighs_the_condition_alone(share: float) -> None:
    """Lambda = diag(lambda_x, share lambda_y): the noise, the targets and x's weights stay."""
    block, t = Block(1), tensor(0.2, 0.5, 0.9)
    denoiser = denoiser_of(lambda seen, told: seen, block, block)
    pair = (torch.full((3, 1, 1, 2), 0.4).double(), torch.full((3, 1, 1, 2), 0.6).double())
    drawn = Drawn(t, torch.ones_like(t))
    full, weighed = (
        noisy_pairs(denoiser, replace(cmde(X, 0.5), y_share=w), pair, drawn, generator())
        for w in (1.0, share)
    )
    assert torch.equal(full.target, weighed.target)
    assert torch.equal(full.x_t, weighed.x_t)
    assert torch.equal(full.errors[:, :1], weighed.errors[:, :1])
    torch.testing.assert_close(weighed.errors[:, 1:], share * full.errors[:, 1:])
    assert float(full.errors[:, 1:].min()) > 0
