"""Samples drawn from nothing but noise have the law of the pictures."""

from __future__ import annotations

import pytest
import torch

from certes.diffusion.noise import NoiseSource
from certes.diffusion.problems import GaussianProblem
from certes.diffusion.solvers import sampling
from certes.diffusion.solvers.sampling import SOLVERS, STOCHASTIC, ReverseChain, draw_samples
from certes.errors import InputError

SHAPE = (1, 2, 3)


def draw(problem: GaussianProblem, count: int, chain: ReverseChain) -> torch.Tensor:
    noise = NoiseSource(range(count))
    *_, last = draw_samples(problem.denoiser(), problem.shape, noise, chain)
    return last.x.double()


def misfit(draws: torch.Tensor, problem: GaussianProblem) -> float:
    """The largest deviation of mean or covariance, in standard errors."""
    centred, n = (draws - problem.mean).flatten(1), len(draws)
    variance = problem.covariance.diagonal()
    means = centred.mean(dim=0) / (variance / n).sqrt()
    error = ((variance[:, None] * variance + problem.covariance**2) / n).sqrt()
    return float(
        torch.cat([means, ((centred.T @ centred / n - problem.covariance) / error).flatten()])
        .abs()
        .max()
    )


@pytest.mark.parametrize("solver", SOLVERS)
def test_samples_have_the_law_of_the_pictures(gaussian: GaussianProblem, solver) -> None:
    chain = ReverseChain(solver, 100 if "dpm" in solver or solver == "unipc" else 400)
    assert misfit(draw(gaussian, 2000, chain), gaussian) < 5


def test_the_law_notices_a_few_steps_of_fixed_small(gaussian: GaussianProblem) -> None:
    """Negative control."""
    assert misfit(draw(gaussian, 2000, ReverseChain("ancestral", 6)), gaussian) > 10


def test_ancestral_steps_of_any_length_with_the_right_variance() -> None:
    mean = torch.full(SHAPE, 0.4, dtype=torch.float64)
    pixels_apart = GaussianProblem(mean, torch.diag(torch.logspace(-3, -1, 6, dtype=torch.float64)))
    for variance in ("learned", "calibrated"):
        drawn = draw(pixels_apart, 2000, ReverseChain("ancestral", 6, variance))
        assert misfit(drawn, pixels_apart) < 5


def brightness_ratio() -> float:
    """Spread of the mean brightness of 64 x 64 pictures over what it should be."""
    spread = 64 * 0.15  # of the first cosine coefficient, where pictures differ by 0.15
    mean = torch.full((1, 1, 2), 0.5, dtype=torch.float64)
    problem = GaussianProblem(mean, torch.diag(torch.tensor([spread**2, 0.01]).double()))
    noise, chain = NoiseSource([1]), ReverseChain("unipc", 80)
    start = NoiseSource([1]).normal((1, 1, 2))
    *_, last = draw_samples(problem.denoiser(), (1, 1, 2), noise, chain)
    return float((last.x - 0.5)[..., 0] / start[..., 0]) / spread


def test_the_start_drowns_the_mean_brightness(monkeypatch: pytest.MonkeyPatch) -> None:
    assert brightness_ratio() == pytest.approx(1, abs=0.01)
    monkeypatch.setattr(sampling, "SIGMA_MAX", 5.0)
    assert brightness_ratio() < 0.5


def test_only_stochastic_solvers_use_their_streams(gaussian: GaussianProblem) -> None:
    x = gaussian.sample(2, 1)
    for solver in SOLVERS:
        chain, ends = ReverseChain(solver, 4), []
        for seed in (0, 2):
            noise = NoiseSource([seed, seed + 1])
            *_, last = chain(gaussian.denoiser(), x, chain.grid(0.5), noise)
            ends.append(last.x)
        assert torch.equal(*ends) != chain.stochastic
        assert chain.stochastic == (solver in STOCHASTIC)


def test_the_center_is_where_the_noise_lies(gaussian: GaussianProblem) -> None:
    def first(center: float) -> torch.Tensor:
        noise, chain = NoiseSource([3]), ReverseChain("ddim", 1)
        return next(draw_samples(gaussian.denoiser(), SHAPE, noise, chain, center)).estimate

    # E[x_0 | x] moves with x by Lambda / (Lambda + sigma^2), far less than a grey level here.
    shift = (first(0.9) - first(0.1)).double()
    gain = gaussian.covariance / sampling.SIGMA_MAX**2
    expected = (gain @ torch.full((6,), 0.8, dtype=torch.float64)).reshape(1, *SHAPE)
    assert shift.abs().max() < 1e-4
    torch.testing.assert_close(shift, expected, rtol=0, atol=2e-7)


def test_grids_of_faint_noise() -> None:
    assert ReverseChain(steps=1).grid(0.5).tolist() == pytest.approx([0.5, 0])
    assert ReverseChain(steps=2).grid(0.001).tolist() == pytest.approx([0.001, 0.0005, 0])
    with pytest.raises(InputError, match="level: 0"):
        ReverseChain().grid(0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"solver": "euler"}, "solver: 'euler'; give one of ancestral, "),
        ({"variance": "medium"}, "variance: 'medium'"),
        ({"solver": "ddim", "variance": "large"}, "only 'ancestral' has a choice"),
        ({"steps": 0}, "steps: 0; give at least 1"),
    ],
)
def test_refused(settings, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ReverseChain(**settings)
