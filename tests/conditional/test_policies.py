"""What a reverse process sees of its condition, and that it sees nobody else's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from certes.conditional.estimators import Estimator, cde, cmde
from certes.conditional.policies import (
    POLICIES,
    Fixed,
    Fresh,
    GivenCondition,
    Path,
    Policy,
    policy_named,
)
from certes.conditional.sampling import draw_given
from certes.diffusion.denoiser import ConditionalDenoiser, Denoised, JointlyDenoised
from certes.diffusion.noise import NoiseSource
from certes.diffusion.schedules import VE
from certes.diffusion.solvers.sampling import SOLVERS, ReverseChain
from certes.errors import InputError, ModelError

from .conftest import SHAPE, pairs, tensor

X = VE(0.002, 28.0)
ESTIMATOR = cmde(X, 1.0)
LEVELS = tensor(28.0, 3.0, 0.4, 0.02)
COUNT = 4000


class Wider(Path):
    """Negative control: a path that adds more noise than it leaves behind."""

    def __call__(self, sigma_x: Tensor) -> tuple[Tensor, Tensor]:
        y_t, sigma_y = super().__call__(sigma_x)
        self._at = y_t + 0.6 * self._column(sigma_y) * self._normal(), sigma_y
        return self._at


def noises(make: Callable[..., Policy]) -> Tensor:
    """What is added to y, in units of its level; a row for each of ``LEVELS``."""
    y = torch.linspace(0, 1, COUNT, dtype=torch.float64)[:, None]
    policy = make(y, ESTIMATOR.y_level, NoiseSource(range(COUNT)))
    rows: list[Tensor] = []
    for sigma in LEVELS:
        y_t, sigma_y = policy(sigma.expand(COUNT))
        torch.testing.assert_close(sigma_y, ESTIMATOR.y_level(sigma.expand(COUNT)))
        rows.append(((y_t - y) / sigma_y[:, None])[:, 0])
    return torch.stack(rows)


def misfit(found: Tensor, correlation: Tensor) -> float:
    """Of means and second moments from those of standard normals, standard errors."""
    means = found.mean(1) * COUNT**0.5
    moments = (found @ found.T / COUNT - correlation) * COUNT**0.5 / (1 + correlation**2).sqrt()
    return float(torch.cat([means, moments.flatten()]).abs().max())


def along_a_path() -> Tensor:
    """Cov(y_s, y_t) = sigma_s^2 for s < t, as the path comes from y + sigma_s h with more added."""
    levels = ESTIMATOR.y_level(LEVELS)
    return torch.minimum(levels[:, None], levels) / torch.maximum(levels[:, None], levels)


def test_fresh_noise_is_independent() -> None:
    eye = torch.eye(len(LEVELS), dtype=torch.float64)
    assert misfit(noises(Fresh), eye) < 4.5
    assert misfit(noises(Path), eye) > 10  # negative control


def test_a_path_has_the_covariances_of_one_diffusion() -> None:
    assert misfit(noises(Path), along_a_path()) < 4.5
    for control in (Fresh, Wider):
        assert misfit(noises(control), along_a_path()) > 10


def test_a_path_stands_still_where_it_is_asked_again() -> None:
    y = torch.rand(3, 2, dtype=torch.float64)
    path = Path(y, ESTIMATOR.y_level, NoiseSource([1, 2, 3]))
    for sigma in (2.0, 0.5):
        level = torch.full((3,), sigma, dtype=torch.float64)
        first, again = path(level)[0], path(level)[0]
        assert torch.equal(first, again)
    fresh = Fresh(y, ESTIMATOR.y_level, NoiseSource([1, 2, 3]))
    assert not torch.equal(fresh(level)[0], fresh(level)[0])
    with pytest.raises(InputError, match="a 'path' of y leads from noise to y and not back"):
        path(torch.full((3,), 1.0, dtype=torch.float64))


def test_a_path_ends_beside_y() -> None:
    """Where the picture is clean the condition keeps the least noise that it was trained with."""
    y = torch.rand(3, 2, dtype=torch.float64)
    path = Path(y, ESTIMATOR.y_level, NoiseSource([1, 2, 3]))
    path(torch.full((3,), 2.0, dtype=torch.float64))
    y_t, sigma_y = path(torch.zeros(3, dtype=torch.float64))
    assert sigma_y.tolist() == pytest.approx([0.002] * 3)
    assert (y_t - y).abs().max() < 5 * 0.002


@pytest.mark.parametrize("make", [Fixed, Fresh, Path])
def test_a_condition_without_noise_stays_clean(make: type[Policy]) -> None:
    y = torch.rand(2, 3, dtype=torch.float64)
    policy = make(y, cde(X).y_level, NoiseSource([1, 2]))
    for sigma in (3.0, 1.0, 0.0):
        y_t, sigma_y = policy(torch.full((2,), sigma))
        assert torch.equal(y_t, y)
        assert not sigma_y.any()


def test_fixed_shows_the_clean_condition_and_says_so() -> None:
    y = torch.rand(2, 3)
    y_t, sigma_y = Fixed(y, ESTIMATOR.y_level, NoiseSource([1, 2]))(torch.tensor([3.0, 1.0]))
    assert y_t is y
    assert torch.equal(sigma_y, torch.zeros(2))


class Elementwise(ConditionalDenoiser):
    """Any function of both; pixel by pixel, so that its rounding depends on no batch."""

    def __call__(self, x: Tensor, sigma_x: Tensor, y: Tensor, sigma_y: Tensor) -> JointlyDenoised:
        a = (1 / (1 + sigma_x**2))[:, None, None, None]
        b = (1 / (1 + sigma_y**2))[:, None, None, None]
        return JointlyDenoised(Denoised(a * x + (1 - a) * b * y * y))


def drawn(y: Tensor, seeds: list[int], chain: ReverseChain, policy: str) -> Tensor:
    noise = NoiseSource(seeds)
    *_, last = draw_given(Elementwise(), ESTIMATOR, y, y.shape[1:], noise, chain, policy)
    return last.x


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("solver", [name for name in SOLVERS if name != "probability_flow"])
def test_nobody_changes_with_batch_mates(solver, policy: str) -> None:
    y = torch.rand(7, 1, 2, 3, generator=torch.Generator().manual_seed(1))
    chain = ReverseChain(solver, 5)
    together = drawn(y, list(range(7)), chain, policy)
    alone = torch.cat([drawn(y[i : i + 1], [i], chain, policy) for i in range(7)])
    assert torch.equal(alone, together)
    others = drawn(y.flip(0), list(range(6, -1, -1)), chain, policy)
    assert torch.equal(others.flip(0), together)
    if policy != "fixed":
        assert not torch.equal(drawn(y, list(range(1, 8)), chain, policy), together)


def law_of_samples(estimator: Estimator, policy: str, count: int = 2500) -> tuple[Tensor, Tensor]:
    """Of samples for one condition: mean and standard deviation, over those of the posterior."""
    problem = pairs()
    _, measured = problem.sample(1, 5)
    mean, covariance = problem.posterior(measured)
    chain = ReverseChain("dpm_solver_2m_sde", 60)
    y = measured.expand(count, -1, -1, -1)
    *_, last = draw_given(
        problem.denoiser(), estimator, y, SHAPE, NoiseSource(range(count)), chain, policy
    )
    spread = covariance.diagonal().sqrt()
    found = last.x.flatten(1)
    return (found.mean(0) - mean.flatten()) / spread, found.std(0) / spread


@pytest.mark.parametrize("policy", POLICIES)
def test_a_cde_draws_from_the_posterior(policy: str) -> None:
    shift, ratio = law_of_samples(cde(X), policy)
    assert shift.abs().max() < 0.09  # five standard errors
    assert (ratio - 1).abs().max() < 0.07


def test_noisy_conditions_widen_what_is_drawn() -> None:
    """Perfect networks and many steps: a path more than fresh noise (which averages out)."""
    estimator = cmde(X, 5.0)
    ratios = [law_of_samples(estimator, policy)[1].min() for policy in ("fixed", "fresh", "path")]
    assert ratios[0] == pytest.approx(1, abs=0.07)  # an exact model may be told any level
    assert ratios[0] + 0.05 < ratios[1] < ratios[2] - 0.02


def test_a_condition_filled_in_is_a_denoiser() -> None:
    problem = pairs()
    x, y = problem.sample(3, 0)
    exact = problem.denoiser()
    given = GivenCondition(exact, Fixed(y, ESTIMATOR.y_level, NoiseSource([1, 2, 3])))
    sigma = tensor(0.1, 0.5, 2.0)
    expected = exact(x, sigma, y, torch.zeros_like(sigma)).x
    found = given(x, sigma)
    torch.testing.assert_close(found.mean, expected.mean)
    assert given.confined == exact.confined
    with pytest.raises(ModelError, match="model: conditional"):
        given.covariance(found, sigma)


def test_unknown_policies() -> None:
    with pytest.raises(InputError, match="policy: 'free'; give one of fixed, fresh, path"):
        policy_named("free")
    assert policy_named("path") is Path
