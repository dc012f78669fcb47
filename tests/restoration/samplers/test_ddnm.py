"""DDNM+: the step, the noise it brings along, exact consistency, and samples that differ little."""

from __future__ import annotations

import math

import pytest
import torch

from certes.diffusion.noise import NoiseSource
from certes.restoration.measurement import SpectralMeasurement, measure
from certes.restoration.operators import (
    Blur,
    Colorize,
    DecomposedOperator,
    Denoise,
    Inpaint,
    SuperResolution,
)
from certes.restoration.operators.kernels import gaussian_kernel
from certes.restoration.samplers.ddnm import ddnm_levels, sample_ddnm
from certes.restoration.samplers.ddrm import sample_ddrm
from certes.restoration.samplers.levels import SIGMA_MAX

from ..laws import field, last
from .posed import affine_answers, judged, posed

SHAPE = (1, 2, 3)
S, T = 0.2, 0.6
# Not seen; noisier than the path at S; at S exactly; less noisy; without noise; noisier than at T.
LEVELS = torch.tensor([[torch.inf, 0.4, S, 0.1, 0.0, 0.9]], dtype=torch.float64)
LOOKS = torch.tensor([[0.0, 0.7, 0.2, 0.9, 0.4, 0.5]], dtype=torch.float64)


@pytest.mark.parametrize("eta", [0.85, 0.3])
def test_a_step_is_the_published_one_coefficient_by_coefficient(eta: float) -> None:
    denoiser, noise = field(SHAPE, 0.2, 1.0).denoiser(), NoiseSource([5])
    known = SpectralMeasurement(Denoise(SHAPE), LOOKS, LEVELS)
    grid = torch.tensor([T, S, 0.0], dtype=torch.float64)
    first, second = sample_ddnm(known, denoiser, grid, NoiseSource([5]), eta=eta)
    e = [noise.normal(SHAPE, torch.float64).flatten() for _ in range(2)]

    start = 0.5 + T * e[0]
    x0 = denoiser(start.reshape(1, *SHAPE), torch.tensor([T])).mean.flatten()
    mixed = eta * e[1] + math.sqrt(1 - eta**2) * (start - x0) / T
    a, y = LEVELS[0], LOOKS[0]
    expected = x0 + S * mixed
    for i in (1, 5):  # noisier than the path: as much of it as the level has room for
        expected[i] = x0[i] + S / a[i] * (y[i] - x0[i])
    for i in (2, 3, 4):  # all of it, and the rest of the level
        expected[i] = y[i] + math.sqrt(S**2 - a[i] ** 2) * mixed[i]
    torch.testing.assert_close(first.x.flatten(), expected)

    # The end: noisy looks are left alone, the exact one is put in place.
    x0 = denoiser(expected.reshape(1, *SHAPE), torch.tensor([S])).mean.flatten()
    x0[4] = y[4]
    torch.testing.assert_close(second.x.flatten(), x0)
    torch.testing.assert_close(second.estimate, second.x)


def operators() -> list[DecomposedOperator]:
    shape, mask = (3, 6, 8), torch.rand(6, 8, generator=torch.Generator().manual_seed(1)) < 0.4
    skew = torch.tensor([1.0, 4.0, 2.0]).double() / 7
    return [
        Inpaint(shape, mask),
        SuperResolution(shape, 2, "bicubic"),
        Colorize(shape),
        Blur(shape, gaussian_kernel(0.5), "reflect"),
        Blur(shape, skew, "zero"),
        Blur(shape, torch.outer(skew, skew.flip(0)), "circular"),
    ]


@pytest.mark.parametrize("H", operators(), ids=lambda H: f"{H.name}-{H.describe().get('boundary')}")
def test_noise_free_measurements_are_met_exactly(H: DecomposedOperator) -> None:
    """Colour pictures too: the published operators give channels each other's singular values."""
    problem = field(H.in_shape, 0.15, 1.5)
    x = problem.sample(2, 7)
    for dtype, accuracy in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        y = H(x).to(dtype)
        known = measure(H, y, torch.zeros(2, dtype=dtype))
        grid = ddnm_levels(known, 4)
        ours, theirs = (
            last(sampler(known, problem.denoiser(), grid, NoiseSource([0, 1]))).x
            for sampler in (sample_ddnm, sample_ddrm)
        )
        assert (H(ours) - y).abs().max() < accuracy
        # Negative control: DDRM ends at the denoiser's answer.
        assert (H(theirs) - y).abs().max() > 20 * accuracy


def test_an_exact_full_view_is_the_answer() -> None:
    H, problem = Denoise(SHAPE), field(SHAPE, 0.15, 1.5)
    x = problem.sample(1, 7)
    known = measure(H, x, torch.zeros(1).double())
    end = last(sample_ddnm(known, problem.denoiser(), ddnm_levels(known, 3), NoiseSource([0])))
    torch.testing.assert_close(end.x, x)


def test_the_grid_starts_at_pure_noise() -> None:
    """Not at the measurement's own noise, as grids do that begin with the measurement."""
    known = measure(Denoise(SHAPE), torch.zeros(1, *SHAPE), torch.tensor([0.1]))
    assert float(ddnm_levels(known, 3)[0]) == pytest.approx(SIGMA_MAX)


@pytest.mark.parametrize("task", ["deblur", "denoise"])
def test_its_samples_hardly_differ_where_everything_is_measured(task: str) -> None:
    """What it is worth on Gaussian fields: a point estimate, near the mean, not a posterior."""
    case = posed(task)
    verdict = judged(affine_answers("ddnm", case, 20), case)
    assert verdict.spread < 0.05
    assert verdict.error < 0.6
    assert not verdict.calibrated


@pytest.mark.parametrize("task", ["inpaint", "super-resolve"])
def test_its_samples_differ_in_what_is_not_measured(task: str) -> None:
    case = posed(task)
    verdict = judged(affine_answers("ddnm", case, 20), case)
    assert 0.5 < verdict.spread < 0.95
    assert verdict.error < 0.6
    assert not verdict.calibrated


def test_without_measurement_noise_its_mean_converges_at_first_order() -> None:
    case = posed("super-resolve", noise=0.0)
    coarse, fine = (judged(affine_answers("ddnm", case, steps), case) for steps in (10, 40))
    assert math.log2(coarse.error / fine.error) / 2 == pytest.approx(1, abs=0.15)
    assert fine.error < 0.05
    assert not fine.calibrated
