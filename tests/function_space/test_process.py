"""The mollified process: its marginals and posteriors, and how the solvers walk it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from certes.diffusion.bases import CosineBasis
from certes.diffusion.grids import karras_grid, log_sigma_grid, times_of
from certes.diffusion.noise import NoiseSource
from certes.diffusion.problems import GaussianProblem
from certes.diffusion.process import Process, ddim_transition
from certes.diffusion.schedules import VP, Cosine
from certes.diffusion.solvers import State, ancestral, ddim, dpm_solver_2m
from certes.errors import ModelError
from certes.function_space.fields import FieldDenoiser, GaussianField
from certes.function_space.mollifier import Mollifier
from certes.function_space.process import MollifiedNoise, MollifiedProcess
from certes.function_space.unmollify import WienerFilter

SHAPE = (4, 5)
PITCH = 0.5
MOLLIFIER = Mollifier(0.4)
CENTER, SCALE = 0.5, 0.25
PROCESS = MollifiedProcess(Cosine(), MOLLIFIER, PITCH, CENTER, SCALE)
FIELD = GaussianField(lambda squared: 0.05 / (0.5 + squared), CENTER)
BASIS = CosineBasis()


def picture(count: int = 2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, *SHAPE, generator=generator, dtype=torch.float64)


def last(states: Iterator[State]) -> State:
    *_, state = states
    return state


def dense_blur() -> Tensor:
    """T / p as a matrix."""
    n = math.prod(SHAPE)
    unit = torch.eye(n, dtype=torch.float64).reshape(n, 1, *SHAPE)
    return MOLLIFIER(unit, PITCH).reshape(n, n).T / PITCH


class Scripted(NoiseSource):
    """Draws that are given."""

    def __init__(self, draws: Sequence[Tensor]) -> None:
        self._draws = iter(draws)

    def normal(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        return next(self._draws).to(dtype)


# Marginals and transitions.


def test_t1_the_marginal() -> None:
    """T1: mean sqrt(abar) T z_0, covariance sigma^2 T T^T / p^2."""
    x0, t = picture(), 0.4
    mean, std = PROCESS.marginal(x0, t)
    z0 = (x0 - CENTER) / SCALE
    torch.testing.assert_close(mean, math.exp(Cosine().log_alpha(t)) * MOLLIFIER(z0, PITCH))
    assert float(std) == pytest.approx(float(Cosine().sigma(t)))
    pixels = MollifiedNoise(NoiseSource([0]), MOLLIFIER, PITCH).normal((20000, *SHAPE))
    pixels = pixels[0].flatten(1).double()
    blur = dense_blur()
    apart = pixels.T @ pixels / len(pixels) - blur @ blur.T
    assert float(apart.abs().max()) < 6 * float((blur @ blur.T).max()) / math.sqrt(len(pixels))


def test_t1_one_step_kernels_compose_to_the_marginal() -> None:
    """T1: x_s = c x_t + noise of T, step after step, from x_0 on."""
    schedule, x0 = Cosine(), picture(1)
    times = torch.linspace(0, 0.7, 30, dtype=torch.float64)
    blur = dense_blur()
    mean, std = PROCESS.marginal(x0, times[0])
    covariance = std**2 * blur @ blur.T
    for t, s in pairwise(times):
        c = schedule.alpha(s) / schedule.alpha(t)
        mean = c * mean
        step = schedule.sigma(s) ** 2 - c**2 * schedule.sigma(t) ** 2
        covariance = c**2 * covariance + step * blur @ blur.T
    expected_mean, expected_std = PROCESS.marginal(x0, times[-1])
    torch.testing.assert_close(mean, expected_mean, rtol=0, atol=1e-14)
    torch.testing.assert_close(covariance, expected_std**2 * blur @ blur.T, rtol=0, atol=1e-14)


def test_t1_the_posterior_is_conditioning_by_blocks() -> None:
    """T1: q(x_s | x_t, x_0) from the joint covariance of (x_s, x_t), which knows T."""
    schedule, x0, t, s = Cosine(), picture(1), 0.6, 0.35
    mean_s, std_s = PROCESS.marginal(x0, s)
    mean_t, std_t = PROCESS.marginal(x0, t)
    blur = dense_blur()
    kernel = blur @ blur.T
    c = schedule.alpha(t) / schedule.alpha(s)
    gain = (c * std_s**2 * kernel) @ torch.linalg.inv(std_t**2 * kernel)
    x_t = mean_t + MOLLIFIER(picture(1, seed=1), PITCH)
    expected = mean_s + (gain @ (x_t - mean_t).flatten()).reshape(x0.shape)
    left = std_s**2 * kernel - gain @ (c * std_s**2 * kernel)
    mean, std = PROCESS.transition(x_t, PROCESS.mollified(x0), t, s)
    torch.testing.assert_close(mean, expected, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(std**2 * kernel, left, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_transitions_keep_the_marginal(eta: float) -> None:
    x0, t, s = picture(1), 0.6, 0.35
    mean_t, std_t = PROCESS.marginal(x0, t)
    mean_s, std_s = PROCESS.marginal(x0, s)
    step = ddim_transition(
        *(f(time) for time in (t, s) for f in (PROCESS.schedule.alpha, PROCESS.schedule.sigma)),
        eta,
    )
    mean, std = PROCESS.transition(mean_t, PROCESS.mollified(x0), t, s, eta)
    torch.testing.assert_close(mean, mean_s)
    assert float(step.a**2 * std_t**2 + std**2) == pytest.approx(float(std_s**2))


def test_without_a_mollifier_it_is_ordinary_diffusion() -> None:
    """White-noise diffusion is the special case."""
    plain, mollified = (
        Process(VP(), center=CENTER, scale=SCALE),
        MollifiedProcess(VP(), Mollifier(0.0), 1.0, CENTER, SCALE),
    )
    denoiser = FIELD.denoiser(Mollifier(0.0))
    times = torch.linspace(1, 0.001, 8, dtype=torch.float64)
    ends: list[Tensor] = []
    for process, noise in (
        (plain, NoiseSource([1, 2])),
        (mollified, MollifiedNoise(NoiseSource([1, 2]), Mollifier(0.0))),
    ):
        x = process.prior((1, *SHAPE), noise, dtype=torch.float64)
        ends.append(last(ddim(process, denoiser, times, x, noise, eta=1.0)).x)
    torch.testing.assert_close(ends[0], ends[1])


def test_denoisers_that_know_no_blur_are_refused() -> None:
    plain = GaussianProblem(torch.zeros(1, 1, 2), torch.eye(2)).denoiser()
    with pytest.raises(ModelError, match="GaussianDenoiser knows no mollified pictures"):
        PROCESS.denoise(plain, torch.zeros(1, 1, 1, 2), 0.5)


@pytest.mark.parametrize("variance", ["learned", "calibrated"])
def test_variances_of_unblurred_pixels_are_refused(variance: str) -> None:
    """They are not the variances of the state's pixels."""
    noise = MollifiedNoise(NoiseSource([0]), MOLLIFIER, PITCH)
    denoiser, times = FIELD.denoiser(MOLLIFIER, PITCH), torch.tensor([0.9, 0.5])
    with pytest.raises(ModelError, match="'small' or 'large'"):
        last(ancestral(PROCESS, denoiser, times, torch.zeros(1, 1, *SHAPE), noise, variance))


# What samplers make of each cosine coefficient.


def power() -> Tensor:
    """Variance of the unblurred coefficients over that of the noise of schedule time, p^2 / s^2."""
    return FIELD.power(SHAPE, PITCH) * PITCH**2 / SCALE**2


def ddim_gains(times: Tensor, power: Tensor) -> Tensor:
    """T4: the product of a_i, with f* = sqrt(1 - abar) x_t / S."""
    gain = torch.ones_like(power)
    for alpha, sigma, alpha_s, sigma_s in tables(times):
        m = sigma / (alpha**2 * power + sigma**2)
        gain = gain * (alpha_s * (1 - sigma * m) / alpha + sigma_s * m)
    return gain


def ancestral_recursion(times: Tensor, power: Tensor) -> list[tuple[Tensor, Tensor]]:
    """T4: c and sigma^2 of v <- c^2 v + sigma^2, from the paper's posterior (eq. 12 to 14)."""
    steps: list[tuple[Tensor, Tensor]] = []
    for alpha, sigma, alpha_s, sigma_s in tables(times):
        beta = 1 - (alpha / alpha_s) ** 2
        of_x0, of_x = alpha_s * beta / sigma**2, alpha / alpha_s * sigma_s**2 / sigma**2
        estimate = alpha * power / (alpha**2 * power + sigma**2)
        steps.append((of_x0 * estimate + of_x, sigma_s**2 / sigma**2 * beta))
    return steps


def tables(times: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    alpha, sigma = Cosine().alpha(times), Cosine().sigma(times)
    return zip(alpha[:-1], sigma[:-1], alpha[1:], sigma[1:], strict=True)


def coefficients(x: Tensor) -> Tensor:
    return BASIS.forward(x)[0, 0]


def unit_state() -> Tensor:
    """A state of which every coefficient is what one unit of white noise makes of it."""
    return BASIS.inverse(MOLLIFIER.symbol(SHAPE, PITCH)[None, None])


def test_t4_ddim_gains_are_the_closed_form() -> None:
    """T4: whatever the mollifier."""
    times = torch.linspace(1, 0.01, 12, dtype=torch.float64)
    denoiser = FIELD.denoiser(MOLLIFIER, PITCH)
    end = last(ddim(PROCESS, denoiser, times, unit_state(), Scripted([])))
    gains = coefficients(end.x) / MOLLIFIER.symbol(SHAPE, PITCH)
    torch.testing.assert_close(gains, ddim_gains(times, power()), rtol=1e-9, atol=1e-12)


def test_t4_ancestral_variances_are_the_recursion() -> None:
    """T4: every draw's share in the end, from a chain that has this draw alone."""
    times = torch.linspace(1, 0.01, 9, dtype=torch.float64)
    denoiser, steps = FIELD.denoiser(MOLLIFIER, PITCH), len(times) - 1
    symbol, nothing = MOLLIFIER.symbol(SHAPE, PITCH), torch.zeros(1, 1, *SHAPE).double()
    variance = torch.zeros(SHAPE, dtype=torch.float64)
    for index in range(-1, steps):
        draws = [unit_state() if i == index else nothing for i in range(steps)]
        start = unit_state() if index < 0 else nothing
        end = last(ancestral(PROCESS, denoiser, times, start, Scripted(draws)))
        variance += (coefficients(end.x) / symbol) ** 2
    expected = torch.ones(SHAPE, dtype=torch.float64)
    for c, added in ancestral_recursion(times, power()):
        expected = c**2 * expected + added
    torch.testing.assert_close(variance, expected, rtol=1e-9, atol=1e-12)


SPREADS = torch.tensor([1e4, 1e2, 1.0, 1e-2, 1e-4], dtype=torch.float64)
"""Variances of coefficients in units of the noise at time 1, as in the reference's table."""


def published_levels(steps: int) -> Tensor:
    """Nichol & Dhariwal's cosine table of 1000 steps, evenly thinned out, then no noise."""

    def signal(u: float) -> float:
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    kept = [max(signal((i + 1) / 1000) / signal(i / 1000), 0.001) for i in range(1000)]
    squared = torch.tensor(kept, dtype=torch.float64).cumprod(0)
    chosen = torch.linspace(999, 0, steps).round().long()
    return ((1 - squared) / squared).sqrt()[chosen]


def spread_kept(solver: Callable[..., Iterator[State]], levels: Tensor) -> Tensor:
    """Variance of samples over that of the field, for each of the spreads."""
    field = GaussianField(lambda squared: SPREADS.reshape(squared.shape), mean=0.0)
    mollifier, shape = Mollifier(0.5), (1, len(SPREADS))
    process = MollifiedProcess(Cosine(), mollifier)
    times = torch.cat([times_of(Cosine(), levels), torch.zeros(1)])
    symbol = mollifier.symbol(shape)
    start = process.schedule.sigma(times[0]) * BASIS.inverse(symbol[None, None])
    end = last(solver(process, field.denoiser(mollifier), times, start, Scripted([])))
    return (coefficients(end.x) / symbol)[0] ** 2 / SPREADS


def test_t4_a_hundred_cosine_steps_lose_spread() -> None:
    """T4: the reference's table, of DDIM: large and small structures differ too little."""
    hundred = spread_kept(ddim, published_levels(100))
    assert hundred.tolist() == pytest.approx([0.28, 0.88, 0.98, 0.88, 0.44], abs=0.011)
    thousand = spread_kept(ddim, published_levels(1000))
    assert thousand.tolist() == pytest.approx([0.89, 0.99, 1.0, 0.98, 0.66], abs=0.011)


def test_t4_an_even_log_snr_grid_repairs_it() -> None:
    """T4: log_sigma_grid, the samplers' own, treats every size of structure alike: 100 DDIM steps
    lose 9 % of the variance of each, and as many steps of second order under 1 %. The grid of
    Karras et al., which spends its steps on low noise, repairs the large structures only."""
    ends = 20000.0, 2e-4
    even = spread_kept(ddim, log_sigma_grid(*ends, 100)[:-1])
    assert float(even.min()) > 0.9
    assert float(even.max() - even.min()) < 0.01
    second = spread_kept(dpm_solver_2m, log_sigma_grid(*ends, 100)[:-1])
    assert float((second - 1).abs().max()) < 0.01
    karras = spread_kept(ddim, karras_grid(*ends, 100)[:-1])
    assert float(karras[0]) > 0.9
    assert float(karras[-1]) < 0.8


# Defects of the released code.


WIDE = Mollifier(1.0)
WALKED = MollifiedProcess(Cosine(), WIDE, 1.0, CENTER, SCALE)
GRID = torch.cat([times_of(Cosine(), log_sigma_grid(100.0, 1e-3, 60)[:-1]), torch.zeros(1)])


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_defect_ddim_with_eta_draws_mollified_noise(eta: float) -> None:
    """The release adds white noise where eta > 0, which is many times too much of the finest
    structures."""
    many, denoiser = (500, 8, 8), FIELD.denoiser(WIDE)
    expected = WIDE.symbol((8, 8)) ** 2 * FIELD.power((8, 8))

    def energy(draws: NoiseSource) -> float:
        """Of the finest coefficients of samples, over that of mollified functions."""
        start = WALKED.prior(
            many, MollifiedNoise(NoiseSource([0]), WIDE), GRID[0], dtype=torch.float64
        )
        end = WALKED.decode(last(ddim(WALKED, denoiser, GRID, start, draws, eta)).x)
        got = BASIS.forward(end - CENTER).square().mean((0, 1))
        return float((got / expected)[5:, 5:].mean())

    assert energy(MollifiedNoise(NoiseSource([1]), WIDE)) == pytest.approx(1.0, abs=0.2)
    assert energy(NoiseSource([1])) > 10


class Filtering(FieldDenoiser):
    """Un-mollified by the paper's filter and blurred again, at each step."""

    def blurred(self, blurred: Tensor, sigma: Tensor) -> Tensor:
        said = super().blurred(blurred, sigma) - CENTER
        return WALKED.mollified(WienerFilter(WIDE)(said, None, sigma, 1.0)) + CENTER


def test_defect_a_filter_inside_the_walk_loses_at_every_step() -> None:
    """Why estimates stay blurred until the end, where the filter's loss is paid once."""
    start = BASIS.inverse(WIDE.symbol((8, 8))[None, None])
    exact, filtered = (
        coefficients(last(ddim(WALKED, denoiser, GRID, start, Scripted([]))).x)[4, 0]
        for denoiser in (FIELD.denoiser(WIDE), Filtering(FIELD, WIDE))
    )
    once = (WienerFilter(WIDE).gain((8, 8)) * WIDE.symbol((8, 8)))[4, 0]
    assert float(once) > 0.95
    assert float(filtered / exact) < 0.85
