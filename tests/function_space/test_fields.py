"""Gaussian fields: the oracle itself, and what it tells of predictors, resolutions and spectra."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from certes.diffusion.bases import CosineBasis
from certes.diffusion.denoiser import Denoised
from certes.diffusion.grids import log_sigma_grid, times_of
from certes.diffusion.noise import NoiseSource
from certes.diffusion.problems import GaussianProblem
from certes.diffusion.schedules import Cosine
from certes.diffusion.solvers import State, ddim
from certes.diffusion.solvers.sampling import ReverseChain
from certes.function_space.coordinates import Lattice
from certes.function_space.fields import FieldDenoiser, GaussianField
from certes.function_space.mollifier import Mollifier
from certes.function_space.noise import CoupledNoise
from certes.function_space.process import MollifiedNoise, MollifiedProcess
from certes.function_space.unmollify import PowerLaw

SHAPE, PITCH = (5, 7), 0.5
MEAN = 0.4
FIELD = GaussianField(lambda squared: 0.05 / (0.5 + squared), MEAN, channels=2)
MOLLIFIER = Mollifier(0.4)
BASIS = CosineBasis()


def last(states: Iterator[State]) -> State:
    *_, state = states
    return state


def cosines() -> Tensor:
    """V of one channel, a column for each coefficient."""
    n = math.prod(SHAPE)
    return BASIS.inverse(torch.eye(n, dtype=torch.float64).reshape(n, 1, *SHAPE)).reshape(n, n).T


def dense(spectrum: Tensor) -> Tensor:
    """V diag(spectrum) V^T."""
    return cosines() @ (spectrum.flatten()[:, None] * cosines().T)


def noisy(sigma: float, dtype: torch.dtype = torch.float64) -> Tensor:
    x0 = FIELD.sample(3, SHAPE, PITCH)
    return (x0 + sigma * NoiseSource(range(3)).normal((2, *SHAPE), torch.float64)).to(dtype)


def level(sigma: float) -> Tensor:
    return torch.full((3,), sigma, dtype=torch.float64)


# The oracle.


@pytest.mark.parametrize("sigma", [0.01, 0.3, 20.0])
def test_it_is_the_dense_gaussian_problem(sigma: float) -> None:
    mean = torch.full((1, *SHAPE), MEAN, dtype=torch.float64)
    problem = GaussianProblem(mean, dense(FIELD.power(SHAPE, PITCH)))
    x, denoiser = noisy(sigma)[:, :1], FIELD.denoiser(MOLLIFIER, PITCH)
    said, expected = denoiser(x, level(sigma)), problem.denoiser()(x, level(sigma))
    torch.testing.assert_close(said.mean, expected.mean)
    assert said.variance is not None
    assert expected.variance is not None
    torch.testing.assert_close(said.variance, expected.variance.expand_as(x))
    v = torch.randn(3, 1, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours = denoiser.covariance(said, level(sigma)).apply(v)
    torch.testing.assert_close(ours, problem.denoiser().covariance(expected, level(sigma)).apply(v))


def test_samples_have_the_spectrum() -> None:
    many = GaussianField(FIELD.spectrum, MEAN, channels=20000).sample(1, SHAPE, PITCH)[0]
    measured = BASIS.forward(many[:, None] - MEAN).square().mean((0, 1))
    torch.testing.assert_close(measured, FIELD.power(SHAPE, PITCH), rtol=0.06, atol=0)


def test_functions_do_not_depend_on_their_batch() -> None:
    assert torch.equal(FIELD.sample(3, SHAPE, seed=1)[:2], FIELD.sample(2, SHAPE, seed=1))
    assert not torch.allclose(FIELD.sample(2, SHAPE, seed=2), FIELD.sample(2, SHAPE, seed=1))


@pytest.mark.parametrize("width", [0.0, 0.4, 1.5])
def test_a_blur_takes_nothing_away(width: float) -> None:
    """E[x_0 | T x] = E[x_0 | x], as long as the arithmetic tells of the finest coefficients."""
    mollifier, sigma, coarse = Mollifier(width), 0.2, 1.0
    x, denoiser = noisy(sigma), FIELD.denoiser(mollifier, coarse)
    said, expected = denoiser.of_blur(mollifier(x), level(sigma)), denoiser(x, level(sigma))
    torch.testing.assert_close(said.mean, expected.mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(said.variance, expected.variance, rtol=1e-6, atol=1e-6)


def test_what_rounding_hides_is_not_known() -> None:
    """In float32 a wide blur leaves the finest coefficients below rounding: the estimate stays of
    the size of pictures, and its variance says what is missing. A bare division explodes."""
    mollifier, sigma = Mollifier(1.5), 0.2
    x, truth = noisy(sigma).float(), FIELD.sample(3, SHAPE, PITCH)
    blurred, denoiser = mollifier(x, PITCH), FIELD.denoiser(mollifier, PITCH)
    said = denoiser.of_blur(blurred, level(sigma))
    assert float((said.mean - truth).std()) < float(truth.std())
    whole = denoiser(x, level(sigma)).variance
    assert said.variance is not None
    assert whole is not None
    assert bool((said.variance > whole).all())
    bare = BASIS.forward(blurred.double() - MEAN) / mollifier.symbol(SHAPE, PITCH)
    assert float(bare.abs().max()) > 1e3


def test_a_coefficient_that_is_neither_signal_nor_noise() -> None:
    flat = GaussianField(lambda squared: (squared == 0).double(), MEAN)
    x = flat.sample(3, SHAPE)
    torch.testing.assert_close(flat.denoiser(MOLLIFIER)(x, level(0.0)).mean, x)


def test_at_another_pitch() -> None:
    x = noisy(0.2)
    said = FIELD.denoiser(MOLLIFIER).at(PITCH)(x, level(0.2))
    torch.testing.assert_close(said.mean, FIELD.denoiser(MOLLIFIER, PITCH)(x, level(0.2)).mean)


# The best predictor (T3).


@pytest.mark.parametrize("t", [0.2, 0.7])
def test_t3_the_optimal_predictor_does_not_know_the_mollifier(t: float) -> None:
    """T3: f* = sqrt(1 - abar) / S x_t and E[T x_0 | x_t] = sqrt(abar) lambda / S x_t, per
    coefficient, from conditioning the joint covariance, which has T in it."""
    alpha, sigma = float(Cosine().alpha(t)), float(Cosine().sigma(t))
    power = FIELD.power(SHAPE, PITCH) * PITCH**2
    total = alpha**2 * power + sigma**2
    for width in (0.2, 0.4):
        mollifier = Mollifier(width)
        blur = dense(mollifier.symbol(SHAPE, PITCH))
        kernel, prior = blur @ blur.T / PITCH**2, blur @ dense(power) @ blur.T / PITCH**2
        state = torch.linalg.inv(alpha**2 * prior + sigma**2 * kernel)
        noise, clean = sigma * kernel @ state, alpha * prior @ state
        torch.testing.assert_close(noise, dense(sigma / total), rtol=1e-7, atol=1e-8)
        torch.testing.assert_close(clean, dense(alpha * power / total), rtol=1e-7, atol=1e-8)
        process = MollifiedProcess(Cosine(), mollifier, PITCH, MEAN)
        x_t = noisy(0.3) - MEAN
        said = process.denoise(FIELD.denoiser(mollifier, PITCH), x_t, t).mean - MEAN
        expected = (x_t.flatten(2) @ clean.T).reshape(x_t.shape)
        torch.testing.assert_close(said, expected, rtol=1e-6, atol=1e-8)


def floor(t: float, power: Tensor, symbol: Tensor) -> float:
    """L*(t) of predicting T xi: mean_k g_k^2 abar lambda_k / S_k."""
    alpha, sigma = Cosine().alpha(t), Cosine().sigma(t)
    return float((symbol**2 * alpha**2 * power / (alpha**2 * power + sigma**2)).mean())


@pytest.mark.parametrize("t", [0.2, 0.7])
def test_t3_the_loss_has_a_floor(t: float) -> None:
    """T3: the oracle's loss is the floor; an answer that is a tenth off in its gain lies above."""
    field = GaussianField(FIELD.spectrum, MEAN, channels=4000)
    process = MollifiedProcess(Cosine(), MOLLIFIER, 1.0, MEAN)
    mean, std = process.marginal(field.sample(1, SHAPE), t)
    noise = MollifiedNoise(NoiseSource([5]), MOLLIFIER).normal(field.sample(1, SHAPE)[0].shape)
    x_t = mean + std * noise
    estimate = process.encode(process.denoise(field.denoiser(MOLLIFIER), x_t, t).mean)
    predicted = (x_t - Cosine().alpha(t) * estimate) / std
    best = floor(t, field.power(SHAPE), MOLLIFIER.symbol(SHAPE))
    loss = float((predicted - noise).square().mean())
    assert loss == pytest.approx(best, rel=0.03)
    assert float((1.1 * predicted - noise).square().mean()) > 1.005 * loss


def test_t3_the_floor_of_a_subset_of_coordinates() -> None:
    """T3: L*(c) = mean diag(K - K^T Sigma^-1 K); of all coordinates the floor, of fewer no less."""
    t = 0.5
    alpha, sigma = float(Cosine().alpha(t)), float(Cosine().sigma(t))
    blur, power = dense(MOLLIFIER.symbol(SHAPE)), FIELD.power(SHAPE)
    noise = blur @ blur.T
    state = alpha**2 * blur @ dense(power) @ blur.T + sigma**2 * noise

    def of(cells: Tensor) -> float:
        within = noise[cells][:, cells]
        gain = torch.linalg.solve(state[cells][:, cells], sigma * within)
        return float((within - sigma * within @ gain).diagonal().mean())

    whole = torch.arange(math.prod(SHAPE))
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))
    best = floor(t, power, MOLLIFIER.symbol(SHAPE))
    assert of(whole) == pytest.approx(best, rel=1e-8)
    assert of(order) == pytest.approx(best, rel=1e-8)
    assert best < of(whole[::2]) < of(whole[::4]) < float(noise.diagonal().mean())


# One function at several resolutions (T8, T11).

ROUGH = GaussianField(PowerLaw(0.05, 3.0, 0.3), MEAN)


def test_defect_pixels_are_cells_not_corners() -> None:
    """A coarse and a fine picture show one function at the centres of their pixels. Coordinates of
    the original, whose first and last pixel lie on the border, are another function's."""
    rows, columns, k, ell = 8, 12, 2, 3
    extent = float(rows), float(columns)

    def function(positions: Tensor) -> Tensor:
        y, x = positions.double().unbind(-1)
        return (math.pi * k / extent[0] * y).cos() * (math.pi * ell / extent[1] * x).cos()

    def corners(r: int) -> Tensor:
        axes = (torch.linspace(0, side, round(side) * r) for side in extent)
        return torch.cartesian_prod(*axes)

    pictures: dict[str, list[Tensor]] = {"cells": [], "corners": []}
    for r in (1, 3):
        lattice = Lattice(rows * r, columns * r, 1 / r)
        cells = lattice.centres(torch.arange(len(lattice)))
        pictures["cells"].append(function(cells).reshape(lattice.shape))
        pictures["corners"].append(function(corners(r)).reshape(lattice.shape))
    coarse, fine = pictures["cells"]
    torch.testing.assert_close(fine[1::3, 1::3], coarse, rtol=0, atol=1e-6)
    # In the basis of fields it is one coefficient, of one value.
    norm = math.sqrt(rows * columns) / 2
    assert float(BASIS.forward(coarse[None])[0, k, ell]) == pytest.approx(norm)
    assert float(BASIS.forward(fine[None])[0, k, ell]) / 3 == pytest.approx(norm)
    coarse, fine = pictures["corners"]
    assert float((fine[1::3, 1::3] - coarse).abs().max()) > 0.1


@pytest.mark.parametrize("finer", [2, 3, 4])
def test_t8_samples_of_a_field_are_one_function(finer: int) -> None:
    coarse = BASIS.forward(ROUGH.sample(2, (6, 9), seed=4))
    fine = BASIS.forward(ROUGH.sample(2, (6 * finer, 9 * finer), 1 / finer, seed=4))
    torch.testing.assert_close(fine[..., :6, :9], finer * coarse)


def field_by_ddim(
    field: GaussianField, r: int, source: type[NoiseSource], mollifier: Mollifier
) -> Tensor:
    """A mollified sample of pitch 1 / r, from noise of the same seeds."""
    shape, pitch = (12 * r, 16 * r), 1 / r
    process = MollifiedProcess(Cosine(), mollifier, pitch, MEAN)
    times = times_of(Cosine(), log_sigma_grid(1e3, 1e-3, 25)[:-1])
    noise = MollifiedNoise(source([1, 2]), mollifier, pitch)
    x = process.prior((1, *shape), noise, times[0], torch.float64)
    return last(ddim(process, field.denoiser(mollifier, pitch), times, x, noise)).x


@pytest.mark.parametrize("width", [0.5, 0.75])
def test_t8_shared_coefficients_give_the_same_field(width: float) -> None:
    """T8: DDIM at r = 3, read at the coarse pixels, and at r = 2, cut at the coarse Nyquist: what
    differs is at most the aliased energy of mollified noise. Not with noise that is not shared."""
    mollifier = Mollifier(width)
    aliased = 1 - (1 - math.erfc(math.pi * width)) ** 2
    coarse = field_by_ddim(ROUGH, 1, CoupledNoise, mollifier)
    three = field_by_ddim(ROUGH, 3, CoupledNoise, mollifier)[..., 1::3, 1::3]
    assert 0 < float((three - coarse).square().sum() / coarse.square().sum()) < aliased
    two = BASIS.forward(field_by_ddim(ROUGH, 2, CoupledNoise, mollifier))[..., :12, :16] / 2
    torch.testing.assert_close(two, BASIS.forward(coarse), rtol=1e-9, atol=1e-9)
    apart = field_by_ddim(ROUGH, 3, NoiseSource, mollifier)[..., 1::3, 1::3] - coarse
    assert float(apart.square().sum() / coarse.square().sum()) > 0.3


def test_t8_coupled_noise_drops_into_the_samplers() -> None:
    """Unblurred pictures, drawn at two pitches with fresh noise at every step, are one function:
    below the coarse Nyquist frequency, of a grid that is one in the noise of functions."""
    chain = ReverseChain("dpm_solver_2m_sde", 20)
    levels = log_sigma_grid(50.0, 1e-3, 20)

    def drawn(r: int, grid: Tensor) -> Tensor:
        noise, shape = CoupledNoise([3]), (1, 12 * r, 16 * r)
        x = MEAN + float(grid[0]) * noise.normal(shape)
        end = last(chain(ROUGH.denoiser(MOLLIFIER, 1 / r), x, grid, noise)).x
        return BASIS.forward(end - MEAN)[..., :12, :16] / r

    coarse = drawn(1, levels)
    assert float((drawn(3, 3 * levels) - coarse).norm() / coarse.norm()) < 1e-3
    assert float((drawn(3, levels) - coarse).norm() / coarse.norm()) > 1e-2


def radial_spectrum(x: Tensor, pitch: float) -> Tensor:
    """Power over area in bins of frequency up to the Nyquist frequency of pitch 1."""
    power = BASIS.forward(x).square().mean((0, 1)) * pitch**2
    rows, columns = (torch.arange(n) / (n * pitch) for n in x.shape[-2:])
    radius = (rows[:, None] ** 2 + columns**2).sqrt()
    edges = torch.linspace(0.05, 1, 9)
    bins = [power[(radius > low) & (radius <= high)].mean() for low, high in pairwise(edges)]
    return torch.stack(bins)


@pytest.mark.parametrize("finer", [2, 3])
def test_t11_spectra_agree_below_the_coarse_nyquist(finer: int) -> None:
    """T11: log-spectral distance of samples at N and rN, of noises that are not shared; a sampler
    that forgets that finer pixels are noisier (xi instead of xi / p) makes other functions."""

    def sampled(r: int, seed: int, forgetful: bool = False) -> Tensor:
        shape, pitch = (32, 24 * r, 32 * r), 1 / r
        process = MollifiedProcess(Cosine(), MOLLIFIER, pitch, MEAN)
        noise = MollifiedNoise(NoiseSource([seed]), MOLLIFIER, pitch)
        times = times_of(Cosine(), log_sigma_grid(1e3, 1e-3, 30)[:-1])
        x = process.prior(shape, noise, times[0], torch.float64)
        x = x / r if forgetful else x
        states = ddim(process, ROUGH.denoiser(MOLLIFIER, pitch), times, x, noise)
        return radial_spectrum(last(states).x, pitch)

    def distance(a: Tensor, b: Tensor) -> float:
        return float((10 * (a / b).log10()).square().mean().sqrt())

    coarse = sampled(1, 0)
    assert distance(sampled(finer, 1), coarse) < 0.5  # dB
    assert distance(sampled(finer, 1, forgetful=True), coarse) > 3


def test_the_interface_is_that_of_a_function_denoiser() -> None:
    denoiser = FIELD.denoiser(MOLLIFIER)
    assert isinstance(denoiser, FieldDenoiser)
    x = noisy(0.1, torch.float32)
    for said in (denoiser(x, level(0.1)), denoiser.of_blur(x, level(0.1))):
        assert isinstance(said, Denoised)
        assert said.mean.dtype == torch.float32
    assert denoiser.blurred(x, level(0.1)).dtype == torch.float32
