"""The process: marginals, transitions, differential equations."""

from __future__ import annotations

import pytest
import torch

from certes.diffusion.bases import CosineBasis
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.noise import NoiseSource
from certes.diffusion.problems import GaussianProblem
from certes.diffusion.process import Process, ddim_transition
from certes.diffusion.schedules import EDM, VE, VP, Cosine, Schedule, SubVP, linear_betas

SCHEDULES = [VP(), SubVP(), VE(0.01, 50.0), EDM(), Cosine(), linear_betas()]
every = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.kind)
etas = pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
EARLIER, LATER = 0.31, 0.8


def picture(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(2, 1, 3, 4, generator=torch.Generator().manual_seed(0), dtype=dtype)


def moments(process: Process, x0: torch.Tensor, t: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of ``q(x_t | x_0)``."""
    mean, std = process.marginal(x0, t)
    return mean, std**2


@every
@etas
def test_transitions_keep_the_marginals(schedule: Schedule, eta: float) -> None:
    """Mean and variance of x_s, integrated over x_t, are those of q(x_s | x_0)."""
    process, x0 = Process(schedule, CosineBasis(), center=0.5, scale=0.5), picture()
    mean_t, variance_t = moments(process, x0, LATER)
    mean, std = process.transition(mean_t, x0, LATER, EARLIER, eta)
    moved, _ = process.transition(mean_t + 1, x0, LATER, EARLIER, eta)
    mean_s, variance_s = moments(process, x0, EARLIER)
    torch.testing.assert_close(mean, mean_s, rtol=1e-10, atol=1e-12)
    total = (moved - mean) ** 2 * variance_t + std**2
    torch.testing.assert_close(total, variance_s.expand_as(total), rtol=1e-10, atol=1e-12)


@every
def test_two_deterministic_steps_are_one(schedule: Schedule) -> None:
    process, x0 = Process(schedule), picture()
    x = 3 * picture().flip(0)
    half, _ = process.transition(x, x0, LATER, 0.5, eta=0)
    twice, _ = process.transition(half, x0, 0.5, EARLIER, eta=0)
    once, std = process.transition(x, x0, LATER, EARLIER, eta=0)
    assert float(std) == 0.0
    torch.testing.assert_close(twice, once, rtol=1e-10, atol=1e-12)


@every
def test_the_ancestral_step_is_bayes(schedule: Schedule) -> None:
    """q(x_s | x_t, x_0) by conditioning the joint Gaussian of the forward chain s -> t."""
    process, x0, x_t = Process(schedule), picture(), picture().flip(0)
    mean_s, variance_s = moments(process, x0, EARLIER)
    mean_t, variance_t = moments(process, x0, LATER)
    gain = schedule.alpha(LATER) / schedule.alpha(EARLIER) * variance_s / variance_t
    mean, std = process.transition(x_t, x0, LATER, EARLIER)
    torch.testing.assert_close(mean, mean_s + gain * (x_t - mean_t), rtol=1e-10, atol=1e-12)
    kept = variance_s - gain**2 * variance_t
    torch.testing.assert_close(std**2, kept, rtol=1e-10, atol=1e-14)


def test_the_ddpm_table_gives_the_published_posterior() -> None:
    """Ho et al. 2020, eq. 7, from one entry of the table to the one before it."""
    table = linear_betas()
    betas = torch.tensor(table.betas, dtype=torch.float64)
    bars = torch.cumprod(1 - betas, 0)
    now, before, beta = bars[500], bars[499], betas[500]
    t, s = table.time_of_index(500), table.time_of_index(499)
    x0, x_t = picture(), picture().flip(0)
    mean, std = Process(table).transition(x_t, x0, t, s)
    expected = before.sqrt() * beta * x0 + (1 - beta).sqrt() * (1 - before) * x_t
    torch.testing.assert_close(mean, expected / (1 - now), rtol=1e-9, atol=0)
    variance = (1 - before) / (1 - now) * beta
    torch.testing.assert_close(float(std**2), float(variance), rtol=1e-9, atol=0)


@etas
def test_every_coefficient_may_have_its_own_levels(eta: float) -> None:
    sigma_t = torch.tensor([[[[0.5, 1.0, 4.0]]]], dtype=torch.float64)
    sigma_s = torch.tensor([[[[0.5, 0.2, 0.0]]]], dtype=torch.float64)
    one = torch.ones_like(sigma_t)
    step = ddim_transition(one, sigma_t, one, sigma_s, eta)
    for i in range(3):
        alone = ddim_transition(one[..., i], sigma_t[..., i], one[..., i], sigma_s[..., i], eta)
        torch.testing.assert_close(step.a[..., i], alone.a)
        torch.testing.assert_close(step.std[..., i], alone.std)
    # A level that stays where it is moves nothing; one that ends at zero is the estimate.
    torch.testing.assert_close(step.a[..., [0, 2]].flatten().tolist(), [1.0, 0.0])
    torch.testing.assert_close(step.b[..., [0, 2]].flatten().tolist(), [0.0, 1.0])
    assert step.std[..., [0, 2]].abs().max() == 0


@pytest.mark.parametrize("schedule", SCHEDULES[:5], ids=lambda schedule: schedule.kind)
def test_the_sde_has_these_marginals(schedule: Schedule) -> None:
    """Integrate the moment equations m' = f m, V' = 2 f V + g^2 (classical Runge-Kutta)."""

    def slope(t: float, state: torch.Tensor) -> torch.Tensor:
        f, g = Process(schedule).sde(t)
        return torch.stack([f * state[0], 2 * f * state[1] + g**2])

    steps, t = 100, EARLIER
    h = (LATER - EARLIER) / steps
    state = torch.stack([schedule.alpha(t), schedule.sigma(t) ** 2])
    for _ in range(steps):
        k1 = slope(t, state)
        k2 = slope(t + h / 2, state + h / 2 * k1)
        k3 = slope(t + h / 2, state + h / 2 * k2)
        k4 = slope(t + h, state + h * k3)
        state, t = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), t + h
    expected = torch.stack([schedule.alpha(LATER), schedule.sigma(LATER) ** 2])
    torch.testing.assert_close(state, expected, rtol=1e-7, atol=0)


@every
def test_the_flow_carries_a_gaussian_along(schedule: Schedule, gaussian: GaussianProblem) -> None:
    """The velocity is the time derivative of the known map from noise to p(x_t)."""
    process = Process(schedule, center=0.5, scale=0.5)
    z = torch.randn(2, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)

    def at(t: float) -> torch.Tensor:
        """x_t whose coordinates along the eigenvectors are z standard deviations from the mean."""
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        spread = (gaussian.eigenvalues + (0.5 * sigma / alpha) ** 2).sqrt()
        return alpha * process.encode(gaussian.from_spectrum(z * spread))

    t, h = 0.4003, 1e-5
    estimate = process.denoise(gaussian.denoiser(), at(t), t).mean
    velocity = process.probability_flow(at(t), estimate, t)
    torch.testing.assert_close(velocity, (at(t + h) - at(t - h)) / (2 * h), rtol=1e-6, atol=1e-7)


class Echo(Denoiser):
    """Answers with its question."""

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> Denoised:
        return Denoised(x, sigma[:, None, None, None].expand_as(x))

    def covariance(self, denoised: Denoised, sigma: torch.Tensor):
        raise NotImplementedError


@every
def test_denoisers_are_asked_in_image_units(schedule: Schedule) -> None:
    process = Process(schedule, CosineBasis(), center=0.5, scale=0.5)
    t = torch.tensor([0.3, 0.7], dtype=torch.float64)
    x_t, std = process.marginal(picture(), t)
    asked = process.denoise(Echo(), x_t, t)
    torch.testing.assert_close(asked.mean, picture())
    assert asked.variance is not None
    level = std.flatten() / schedule.alpha(t) / 2
    torch.testing.assert_close(asked.variance[:, 0, 0, 0], level)


def test_coefficients_follow_the_precision_of_the_pictures() -> None:
    process, x = Process(VP()), picture(torch.float32)
    mean, std = process.transition(x, x, 0.5, 0.4)
    assert mean.dtype == std.dtype == torch.float32
    assert process.probability_flow(x, x, 0.5).dtype == torch.float32
    assert process.denoise(Echo(), x, 0.5).mean.dtype == torch.float32


def test_the_prior_is_noise_around_the_centre() -> None:
    process = Process(VE(0.01, 50.0), center=0.5)
    x = process.prior((1, 8, 8), NoiseSource(range(100)))
    expected = 50 * NoiseSource(range(100)).normal((1, 8, 8))
    torch.testing.assert_close(x, expected)
