"""DDRM: the published step, the published grid, and how wide its answers really spread."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from certes.diffusion.noise import NoiseSource
from certes.diffusion.problems import GaussianProblem
from certes.errors import InputError
from certes.restoration.measurement import SpectralMeasurement
from certes.restoration.operators import Denoise
from certes.restoration.samplers.ddrm import official_levels, sample_ddrm

from ..laws import field, last, law, repeated

Z = 1.6448536269514722  # of a nominal 90 % interval


@pytest.mark.parametrize(
    ("steps", "calls"),
    [(1, 1), (7, 8), (15, 16), (20, 20), (30, 31), (60, 63), (150, 167), (300, 334), (1000, 1000)],
)
def test_the_official_grid_has_its_own_idea_of_steps(steps: int, calls: int) -> None:
    assert len(official_levels(steps)) == calls + 1


def test_the_official_grid_is_the_linear_table() -> None:
    """In [-1, 1] units: 97.1 at t = 950, .176 at 50, .010 at 0, then 0."""
    alphas = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), dim=0)
    table = ((1 - alphas) / alphas).sqrt()
    levels = official_levels(20, scale=1.0)
    torch.testing.assert_close(levels[:-1], table[torch.arange(950, -1, -50)])
    assert levels[-1] == 0
    assert levels[[0, -3, -2]].tolist() == pytest.approx([97.1, 0.176, 0.010], rel=5e-3)
    torch.testing.assert_close(official_levels(20), levels / 2)


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_the_official_grid_has_limits(steps: int) -> None:
    with pytest.raises(InputError, match="steps"):
        official_levels(steps)


SHAPE = (1, 2, 3)
S, T = 0.2, 0.6
# Not seen; noisier than the path at S; at S exactly; less noisy; without noise; noisier than at T.
LEVELS = torch.tensor([[torch.inf, 0.4, S, 0.1, 0.0, 0.9]], dtype=torch.float64)
LOOKS = torch.tensor([[0.0, 0.7, 0.2, 0.9, 0.4, 0.5]], dtype=torch.float64)


def measurement() -> SpectralMeasurement:
    return SpectralMeasurement(Denoise(SHAPE), LOOKS, LEVELS)


@pytest.mark.parametrize(("eta", "eta_b"), [(0.85, 1.0), (0.3, 0.6)])
def test_start_and_step_are_the_published_cases(eta: float, eta_b: float) -> None:
    problem, levels = field(SHAPE, 0.2, 1.0), torch.tensor([T, S, 0.0], dtype=torch.float64)
    denoiser, noise = problem.denoiser(), NoiseSource([5])
    first, second = sample_ddrm(
        measurement(), denoiser, levels, NoiseSource([5]), eta=eta, eta_b=eta_b
    )
    e = [noise.normal((6,), torch.float64)[0] for _ in range(3)]
    a, y = LEVELS[0], LOOKS[0]

    start = 0.5 + T * e[0]
    pinned = a < T
    start[pinned] = (y + (T**2 - a**2).clamp(min=0).sqrt() * e[0])[pinned]
    x0 = denoiser(start.reshape(1, *SHAPE), torch.tensor([T])).mean
    torch.testing.assert_close(first.estimate, x0)
    x0, kept = x0.flatten(), math.sqrt(1 - eta**2) * S
    expected = x0 + kept * (start - x0) / T + eta * S * e[1]  # not seen, or exactly at S
    for i in (1, 5):  # noisier than the path
        expected[i] = x0[i] + kept * (y[i] - x0[i]) / a[i] + eta * S * e[1][i]
    for i in (3, 4):  # less noisy
        spread = (S**2 - (eta_b * a[i]) ** 2).sqrt()
        expected[i] = (1 - eta_b) * x0[i] + eta_b * y[i] + spread * e[1][i]
    torch.testing.assert_close(first.x.flatten(), expected)
    assert first.t == S

    # The last step ends at the estimate, whatever was measured: no projection on y.
    x0 = denoiser(expected.reshape(1, *SHAPE), torch.tensor([S])).mean
    torch.testing.assert_close(second.x, x0)
    assert abs(float(second.x.flatten()[4] - y[4])) > 1e-3


SCALARS = torch.tensor([[torch.inf, 0.05, 0.2]], dtype=torch.float64)  # s = 0; s = 1; s = 1/4
TAUS = (0.025, 0.1, 0.25)  # of the prior; .05, .2, .5 in [-1, 1] units


def coverage(tau: float, steps: int, eta: float) -> list[float]:
    """Of DDRM's nominal 90 % interval, from infinitely many samples, over pictures and noise."""
    shape = (1, 1, 3)
    white = GaussianProblem(torch.full(shape, 0.5), tau**2 * torch.eye(3))

    def answers(y: float) -> tuple[Tensor, Tensor]:
        looks = torch.full((1, 3), y, dtype=torch.float64)
        seen = SpectralMeasurement(Denoise(shape), looks, SCALARS)
        return law(sample_ddrm, seen, white.denoiser(), official_levels(steps), eta=eta)

    (low, covariance), (high, _) = answers(0.5), answers(1.5)
    a2 = SCALARS[0] ** 2
    gain = torch.where(a2.isinf(), 0.0, tau**2 / (tau**2 + a2))
    # The truth minus the mean answer: the posterior's own spread, and the mean answer's error.
    error = tau**2 * (1 - gain) + (low - 0.5) ** 2
    error += torch.where(gain > 0, (high - low - gain) ** 2 * (tau**2 + a2), 0.0)
    return torch.erf(Z * (covariance.diagonal() / (2 * error)).sqrt()).tolist()


# Coverage for s = 1 and s = 1/4, for each tau: an independent propagation of the official update.
TABLE = {
    (20, 0.85): [(0.36, 0.34), (0.79, 0.59), (0.95, 0.68)],
    (100, 0.85): [(0.58, 0.54), (0.69, 0.57), (0.71, 0.58)],
    (1000, 0.85): [(0.55, 0.50), (0.53, 0.41), (0.52, 0.38)],
    (1000, 1.0): [(0.73, 0.73), (0.78, 0.75), (0.98, 0.75)],
}


@pytest.mark.parametrize(("steps", "eta"), TABLE)
def test_coverage_is_the_known_one(steps: int, eta: float) -> None:
    for tau, expected in zip(TAUS, TABLE[steps, eta], strict=True):
        unseen, *seen = coverage(tau, steps, eta)
        assert seen == pytest.approx(expected, abs=0.0075)
        assert unseen == pytest.approx(unseen_coverage(tau, steps, eta), abs=1e-6)


def unseen_coverage(tau: float, steps: int, eta: float, direction: bool = True) -> float:
    """The same for a coefficient that is not seen, by the variance's recursion."""
    levels = official_levels(steps).tolist()
    variance = levels[0] ** 2
    for t, s in pairwise(levels):
        gain = tau**2 / (tau**2 + t**2)
        factor = gain + direction * math.sqrt(1 - eta**2) * s / t * (1 - gain)
        variance = factor**2 * variance + (eta * s) ** 2
    return math.erf(Z * math.sqrt(variance / 2) / tau)


def test_the_direction_of_the_network_noise_matters_where_nothing_is_seen() -> None:
    """Negative control: a step without it would cover .34, .56 and .61 instead of .48, .72, .79."""
    without = [unseen_coverage(tau, 20, 0.85, direction=False) for tau in TAUS]
    assert without == pytest.approx([0.34, 0.56, 0.61], abs=0.0075)
    ours = [coverage(tau, 20, 0.85)[0] for tau in TAUS]
    assert ours == pytest.approx([0.477, 0.717, 0.788], abs=0.001)


def test_drawn_answers_have_the_law_that_was_computed() -> None:
    count, problem, levels = 2000, field(SHAPE, 0.2, 1.0), official_levels(20)
    mean, covariance = law(sample_ddrm, measurement(), problem.denoiser(), levels)
    states = sample_ddrm(
        repeated(measurement(), count), problem.denoiser(), levels, NoiseSource(range(count))
    )
    drawn = last(states).x.flatten(1)
    spread = covariance.diagonal().sqrt()
    assert ((drawn.mean(0) - mean) / spread).abs().max() < 5 / count**0.5
    difference = (drawn.T.cov() - covariance) / torch.outer(spread, spread)
    assert difference.abs().max() < 10 / count**0.5


def test_a_grid_that_starts_at_the_measurement_starts_with_it() -> None:
    """Denoising on an even grid begins at the noise of the measurement itself."""
    known = SpectralMeasurement(Denoise(SHAPE), LOOKS, torch.full_like(LEVELS, T))
    levels = torch.tensor([T, 0.0], dtype=torch.float64)
    problem = field(SHAPE, 0.2, 1.0)
    (state,) = sample_ddrm(known, problem.denoiser(), levels, NoiseSource([5]))
    expected = problem.denoiser()(LOOKS.reshape(1, *SHAPE), torch.tensor([T])).mean
    torch.testing.assert_close(state.estimate, expected)
