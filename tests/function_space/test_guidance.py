"""Guided inpainting of a Gaussian field, whose posterior is known; what the blur took is drawn."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from certes.diffusion.bases import CosineBasis
from certes.diffusion.noise import NoiseSource, stream_seeds
from certes.diffusion.problems import GaussianProblem
from certes.diffusion.schedules import EDM
from certes.diffusion.solvers.sampling import ReverseChain
from certes.errors import InputError, ModelError
from certes.function_space.fields import GaussianField
from certes.function_space.guidance import Known, guided
from certes.function_space.missing import Unblurring, unblurring
from certes.function_space.model import FunctionModel
from certes.function_space.mollifier import Mollifier
from certes.function_space.process import MollifiedNoise, MollifiedProcess
from certes.function_space.restore import inpaint
from certes.function_space.unmollify import WienerFilter
from certes.restoration.operators import Inpaint

from .conftest import Make
from .exact_field import FIELD, MEAN, model

SIDE = 12
SHAPE = (1, SIDE, SIDE)
MOLLIFIER = Mollifier(1.0)
# As rough as a function may be, so that the blur takes much of it.
ROUGH = GaussianField(lambda squared: 0.0675 / (0.15 + squared), MEAN)


def known_pixels() -> Inpaint:
    mask = torch.ones(SIDE, SIDE, dtype=torch.bool)
    mask[3:8, 4:10] = False
    return Inpaint(SHAPE, mask)


@cache
def posterior() -> tuple[Tensor, Tensor, Tensor]:
    """A picture of the field, the mean and the covariance of what its known pixels leave open."""
    n = SIDE**2
    modes = CosineBasis().forward(torch.eye(n, dtype=torch.float64).reshape(n, *SHAPE))
    modes = modes.reshape(n, n)
    covariance = (modes * ROUGH.power((SIDE, SIDE)).flatten()) @ modes.T
    mean = torch.full(SHAPE, MEAN, dtype=torch.float64)
    problem = GaussianProblem(mean, (covariance + covariance.T) / 2)
    x0, operator = ROUGH.sample(1, (SIDE, SIDE), 1.0, 3), known_pixels()
    return x0, *problem.posterior(operator(x0), operator, 1e-5)


def filtering(missing: bool = True) -> Unblurring:
    """The paper's filter, with or without a draw of what it does not give back."""
    made = unblurring(WienerFilter(MOLLIFIER), ROUGH.spectrum, (SIDE, SIDE), center=MEAN, scale=1.0)
    return made if missing else replace(made, deviation=0 * made.deviation)


def in_hole(variance: Tensor) -> float:
    hole = ~known_pixels().mask
    return float(variance.expand(SHAPE)[hole].mean().sqrt())


def spread_of_hole() -> float:
    return in_hole(posterior()[2].diagonal().reshape(SHAPE))


def streams(count: int, seed: int = 0) -> NoiseSource:
    return NoiseSource(stream_seeds(seed, [str(i) for i in range(count)]))


def test_missing_variance_of_exact_samples() -> None:
    _, mean, covariance = posterior()
    count = 3000
    eigenvalues, vectors = torch.linalg.eigh(covariance)
    e = streams(count).normal((SIDE**2,), torch.float64)
    samples = (e * eigenvalues.clamp(min=0).sqrt()) @ vectors.T
    blurred = MOLLIFIER(mean + samples.reshape(count, *SHAPE))

    def ratio(filtered: Unblurring) -> float:
        drawn = filtered.sample(blurred, streams(count, 1))
        return in_hole(drawn.var(0)) / spread_of_hole()

    assert ratio(filtering()) == pytest.approx(1, abs=0.05)
    assert ratio(filtering(missing=False)) < 0.85
    # The filter's squared error is not what is missing.
    kept = MOLLIFIER.symbol((SIDE, SIDE)) * filtering().gain
    error = (ROUGH.power((SIDE, SIDE)) * (1 - kept) ** 2).sqrt()
    assert ratio(replace(filtering(), deviation=error)) < 0.95


def answers(steps: int, filtered: Unblurring, count: int = 80) -> Tensor:
    x0, operator, noise = posterior()[0], known_pixels(), streams(count)
    process = MollifiedProcess(EDM(), MOLLIFIER)
    grid = ReverseChain(steps=steps).grid(10.0)
    start = MEAN + 10 * MollifiedNoise(noise, MOLLIFIER).normal(SHAPE, torch.float64)
    known = Known(operator(x0).expand(count, -1, -1, -1), operator.mask)
    denoiser = ROUGH.denoiser(MOLLIFIER)
    *_, last = guided(process, denoiser, grid, start, noise, known, filtered)
    return last.x


def test_guided_samples_of_a_field() -> None:
    x0, mean, _ = posterior()
    hole = ~known_pixels().mask
    drawn = answers(50, filtering())
    assert bool((drawn[:, ~hole] == x0[:, ~hole]).all())
    spread = spread_of_hole()
    assert in_hole(drawn.var(0)) / spread == pytest.approx(1, abs=0.12)
    assert in_hole(answers(50, filtering(missing=False)).var(0)) / spread < 0.82
    off = in_hole((drawn.mean(0) - mean[0]) ** 2) / spread
    assert off < 0.3
    # The field's own mean, which knows no pixels, is farther off.
    assert in_hole((MEAN - mean[0]) ** 2) / spread > 0.5


def test_steps_change_the_accuracy_only() -> None:
    few, many = (answers(steps, filtering(), 60) for steps in (30, 60))
    hole, spread = ~known_pixels().mask, spread_of_hole()
    assert in_hole(few.var(0)) == pytest.approx(in_hole(many.var(0)), rel=0.15)
    apart = (few.mean(0) - many.mean(0))[hole].square().mean().sqrt()
    assert float(apart) < 0.35 * spread


def hole_of(shape: tuple[int, int]) -> Tensor:
    mask = torch.ones(shape, dtype=torch.bool)
    mask[4:9, 5:12] = False
    return mask


def test_posterior_of_a_model() -> None:
    y, mask = FIELD.sample(2, (12, 16)).float(), hole_of((12, 16))
    y_marked = torch.where(mask, y, torch.nan)
    answer = inpaint(y_marked, mask, model(), samples=6, steps=12, seed=3)
    assert answer.kept is not None
    assert answer.kept.shape == (6, 2, 1, 12, 16)
    known = mask.expand(1, 12, 16)
    torch.testing.assert_close(answer.mean[:, known], y[:, known].clamp(0, 1))
    assert bool((answer.std[:, ~known] > 0).all())
    made = answer.provenance
    assert made is not None
    assert (made.model, made.sampler, made.steps, made.samples) == (
        "hash-of-field",
        "guidance",
        12,
        6,
    )
    assert made.operator.startswith("inpaint")
    alone = inpaint(y_marked[:1], mask, model(), samples=6, steps=12, seed=3, batch_size=2)
    torch.testing.assert_close(alone.mean, answer.mean[:1], atol=1e-4, rtol=0)
    finer = inpaint(y_marked, mask, model().at(0.5), samples=2, steps=3)
    assert finer.provenance is not None
    assert finer.provenance.model != made.model


def test_start_says_how_far_the_answer_may_stray() -> None:
    mask = hole_of((12, 16))
    x = FIELD.sample(1, (12, 16)).float()
    # In the hole stands what the rest does not tell.
    y = torch.where(mask, x, 1 - x)

    def strayed(start: float) -> float:
        answer = inpaint(y, mask, model(), start=start, samples=8, steps=40)
        assert answer.kept is not None
        gap = (answer.kept - y).square().mean(0)
        return float(gap[..., ~mask].mean().sqrt())

    near, half, far = (strayed(start) for start in (0.02, 0.3, 1.0))
    assert near < 0.5 * far
    assert near < half < far


def test_refuses(make: Make) -> None:
    y, mask = torch.rand(1, 1, 16, 16), hole_of((16, 16))
    unmeasured = FunctionModel("small", make(measured=False), {}, "hash")
    with pytest.raises(ModelError, match="no spectrum was measured"):
        inpaint(y, mask, unmeasured, samples=1, steps=2)
    for start in (0.0, 1.5):
        with pytest.raises(InputError, match="start"):
            inpaint(y, mask, model(), start=start)
    with pytest.raises(InputError, match="samples"):
        inpaint(y, mask, model(), samples=0)
