"""Defects of published calibrations, each beside what is done here."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from certes.errors import CalibrationError
from certes.intervals.critical import CriticalValues
from certes.intervals.populations import AllOrNothing
from certes.intervals.probability import binomial_cdf, binomial_quantile
from certes.intervals.quantiles import nominal_coverage, sample_bounds
from certes.intervals.rules import Betting, HoeffdingBentkus, certify

ALPHA = DELTA = 0.1
GRID = np.linspace(0.9, 1.3, 1000)


def image_errors(scale: float, images: int = 200, pixels: int = 64) -> np.ndarray:
    """Critical values that are spread evenly up to ``scale``, images alike."""
    return scale * np.tile((np.arange(pixels) + 0.5) / pixels, (images, 1))


def hoeffding_bentkus(
    risk: float, n: int, count: Callable[[float], int] = math.ceil, kl: bool = True
) -> float:
    """How likely so small a risk is where the true one is alpha."""
    wanted = math.e * binomial_cdf(
        count(n * risk + (-1e-9 if count is math.ceil else 1e-9)), n, 0.1
    )
    if not kl or risk == 0:
        return wanted
    entropy = risk * math.log(risk / ALPHA) + (1 - risk) * math.log((1 - risk) / (1 - ALPHA))
    return min(wanted, math.exp(-n * entropy))


def admitted(n: int, count: Callable[[float], int] = math.ceil, kl: bool = True) -> float:
    """The largest risk that passes, to four digits."""
    risks = np.arange(1, 1000) * 1e-4
    return float(max(r for r in risks if hoeffding_bentkus(float(r), n, count, kl) <= DELTA))


def on_a_grid(critical: np.ndarray, bound_of_zero: float) -> float:
    """The published loop: down a grid, to the size before the first whose bound exceeds alpha.

    Args:
        critical: of all pixels.
        bound_of_zero: what it takes for the bound of a risk of 0; it should be small.
    """
    limit = HoeffdingBentkus().largest_mean(critical.size, ALPHA, DELTA)
    step = float(GRID[1] - GRID[0])
    for size in GRID[::-1]:
        risk = float((critical > size - step).mean())
        bound = bound_of_zero if risk == 0 else ALPHA * risk / limit
        if bound > ALPHA:
            return float(size)
    return float(GRID[-1]) + step


def certified(critical: np.ndarray) -> float:
    return certify(CriticalValues.of_images(critical), "hb", ALPHA, DELTA)


def test_the_published_loop_ends_where_it_should_on_its_grid() -> None:
    """Where the answer lies inside the grid the loop is right; what follows is about its ends."""
    critical = image_errors(1.2)
    limit = HoeffdingBentkus().largest_mean(critical.size, ALPHA, DELTA)
    size = on_a_grid(critical, bound_of_zero=0.0)
    assert GRID[0] < size < GRID[-1]
    assert float((critical > size).mean()) <= limit < float((critical > size - 0.02).mean())


def test_defect_a_grid_that_ends_too_early_returns_its_end() -> None:
    """No size of the grid is large enough: the published loop says nothing of it."""
    critical = image_errors(3.0)
    published = on_a_grid(critical, bound_of_zero=0.0)
    assert published == GRID[-1]
    assert float((critical > published).mean()) > 0.5
    assert float((critical > certified(critical)).mean()) <= 0.06
    critical[:, ::2] = np.inf
    with pytest.raises(CalibrationError, match="no finite interval size"):
        certified(critical)


def test_defect_a_grid_on_which_nothing_fails_is_left_at_its_wide_end() -> None:
    """Bounds that are nearly right at the narrow end: all pass, and the start is returned."""
    critical = image_errors(0.95)
    assert float((critical > GRID[0]).mean()) > 0
    assert on_a_grid(critical, bound_of_zero=0.0) > GRID[-1]
    assert certified(critical) < 0.95


def test_defect_a_risk_of_zero_taken_for_a_risk_of_one() -> None:
    """The root finder fails at a risk of 0, and what then stands for the bound is 1."""
    critical = image_errors(1.2)
    assert on_a_grid(critical, bound_of_zero=0.0) < 1.15
    published = on_a_grid(critical, bound_of_zero=1.0)
    assert published == GRID[-1]
    assert float((critical > published).mean()) == 0
    assert 0 < float((critical > certified(critical)).mean()) <= 0.06


@pytest.mark.parametrize(("n", "floored"), [(50, 0.04), (100, 0.05), (200, 0.065)])
def test_defect_the_floor_of_the_count(n: int, floored: float) -> None:
    """Bentkus' term takes the ceiling of n r; with the floor losses of up to 1 / n more pass."""
    limit = HoeffdingBentkus().largest_mean(n, ALPHA, DELTA)
    assert admitted(n) == pytest.approx(limit, abs=1e-4)
    assert admitted(n, math.floor) == pytest.approx(floored, abs=2e-4)
    assert admitted(n, math.floor) > limit + 2e-3


@pytest.mark.parametrize(("n", "left"), [(50, 0.02), (100, 0.04)])
def test_defect_hoeffdings_term_of_the_larger_of_two(n: int, left: float) -> None:
    """The relative entropy of max(mu, r) from mu is 0 for every r <= mu: Bentkus' term is left."""
    assert HoeffdingBentkus().largest_mean(n, ALPHA, DELTA) > left + 2e-3
    assert admitted(n, kl=False) == pytest.approx(left, abs=1e-4)


def test_defect_a_bound_compared_with_delta() -> None:
    """alpha and delta differ here; where they are equal nothing shows."""
    alpha, delta, n = 0.05, 0.2, 400
    losses = np.linspace(0, 1, 1000, endpoint=False)
    units = CriticalValues.of_images(np.tile(losses, (n, 1)))

    def risk_at(level: float) -> float:
        limit = HoeffdingBentkus().largest_mean(n, level, delta)
        return float((losses > np.quantile(losses, 1 - limit)).mean())

    size = certify(units, "hb", alpha, delta)
    risk = float((losses > size).mean())
    assert risk == pytest.approx(risk_at(alpha), abs=2e-3)
    assert risk < alpha
    assert risk_at(delta) > 3 * alpha


@pytest.mark.parametrize(("samples", "interpolated"), [(16, 0.794), (200, 0.891)])
def test_defect_quantiles_between_few_samples(samples: int, interpolated: float) -> None:
    """Levels .05 and .95 of K draws, between the order statistics, of a uniform law."""
    draws = torch.rand(samples + 1, 1, 1, 100, 400, generator=torch.Generator().manual_seed(0))
    truth, nominal = draws[-1], nominal_coverage(samples, ALPHA)
    found = float(sample_bounds(draws[:-1], ALPHA).contains(truth).float().mean())
    assert found == pytest.approx(nominal, abs=0.005)
    low, high = np.quantile(draws[:-1].numpy(), [0.05, 0.95], axis=0)
    between = float(((low <= truth.numpy()) & (truth.numpy() <= high)).mean())
    assert between == pytest.approx(interpolated, abs=0.005)
    assert between < nominal - 0.008


def failures(accepts: Callable[[np.ndarray, np.ndarray, float], bool], trials: int = 300) -> int:
    """How often a test accepts losses whose risk is a little larger than alpha."""
    population, rng, n = AllOrNothing(), np.random.default_rng(0), 100
    size = -math.log(1.05 * ALPHA)
    assert population.risk(size) > ALPHA
    wrong = 0
    for _ in range(trials):
        units = CriticalValues.of_images(population.draw(rng, n))
        bets = Betting().bets(units, ALPHA, DELTA)
        wrong += accepts(bets, units.losses(size), -math.log(DELTA))
    return wrong


def capital(bets: np.ndarray, losses: np.ndarray) -> np.ndarray:
    return np.cumsum(np.log1p(bets * (ALPHA - losses)))


def test_defect_two_halves_of_a_bet_that_are_added() -> None:
    """One run of the capital may be looked at when it is largest; two may not, and be added."""
    trials = 300
    limit = binomial_quantile(0.999, trials, DELTA)

    def whole(bets: np.ndarray, losses: np.ndarray, goal: float) -> bool:
        return bool(capital(bets, losses).max() >= goal)

    def halves(bets: np.ndarray, losses: np.ndarray, goal: float) -> bool:
        middle = len(losses) // 2
        parts = (capital(bets[s], losses[s]) for s in (slice(middle), slice(middle, None)))
        return sum(max(float(part.max()), 0.0) for part in parts) >= goal

    assert failures(whole, trials) <= limit < failures(halves, trials)
