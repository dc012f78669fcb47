"""Rank correlation against scipy, and its interval against a brute-force bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from certes.intervals import ranks
from certes.intervals.ranks import midranks, rank_correlation
from certes.intervals.resampling import RESAMPLES, central, draws


def pictures(images: int, pixels: int, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Widths that tell errors in some pictures well and in others not at all."""
    rng = np.random.default_rng(seed)
    width = rng.lognormal(size=(images, pixels)).astype(np.float32)
    noise = np.where(rng.random((images, 1)) < 0.5, width, rng.lognormal(size=width.shape))
    error = (noise * np.abs(rng.normal(size=width.shape))).astype(np.float32)
    return list(width), list(error)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40))
def test_midranks_are_scipys(values: list[int]) -> None:
    x = np.array(values, np.float32)
    np.testing.assert_array_equal(midranks(x) + 1, stats.rankdata(x))


@pytest.mark.parametrize("levels", [3, 1000])
def test_correlation_is_scipys(levels: int) -> None:
    rng = np.random.default_rng(1)
    x = [rng.integers(0, levels, size).astype(np.float32) for size in (50, 7, 120)]
    y = [a + rng.integers(0, levels, len(a)).astype(np.float32) for a in x]
    rho, _ = rank_correlation(x, y, np.arange(3))
    wanted = stats.spearmanr(np.concatenate(x), np.concatenate(y)).statistic
    assert rho == pytest.approx(wanted, abs=1e-12)


def test_only_the_order_matters() -> None:
    x, y = pictures(5, 100, 2)
    squeezed = [np.exp(-a) for a in x]
    rho, limits = rank_correlation(x, y, np.arange(5))
    turned, turned_limits = rank_correlation(squeezed, y, np.arange(5))
    assert rho is not None
    assert turned == pytest.approx(-rho)
    assert limits is not None
    assert turned_limits == pytest.approx((-limits[1], -limits[0]), abs=0.01)
    assert rank_correlation(x, x, np.arange(5))[0] == pytest.approx(1.0)


def test_interval_is_that_of_ranking_every_resample_anew() -> None:
    x, y = pictures(12, 60, 3)
    brute = []
    for counts in draws(12, seed=0)[:400]:
        drawn = np.repeat(np.arange(12), counts)
        a, b = (np.concatenate([v[i] for i in drawn]) for v in (x, y))
        brute.append(stats.spearmanr(a, b).statistic)
    tables = ranks._tables(
        midranks(np.concatenate(x)), midranks(np.concatenate(y)), [len(v) for v in x]
    )
    binned = ranks._of_tables(draws(12, seed=0)[:400] @ tables)
    # 720 pixels on 64 levels; with more pixels it is nearer to 1 / 64^2.
    np.testing.assert_allclose(binned, brute, atol=5e-3)
    low, high = central(np.array(brute))
    _, limits = rank_correlation(x, y, np.arange(12))
    assert limits == pytest.approx((low, high), abs=0.02)


def test_resamples_come_in_whole_chunks() -> None:
    assert RESAMPLES % ranks._AT_ONCE == 0


def test_interval_is_as_wide_as_the_correlation_scatters_that_over_pixels_is_not() -> None:
    """Half of the pictures are told well: what another set would give depends on which half."""
    many = [rank_correlation(*pictures(30, 100, seed), np.arange(30)) for seed in range(10, 40)]
    rhos = np.array([rho for rho, _ in many])
    truth = rhos.mean()
    held = sum(low <= truth <= high for _, (low, high) in many)  # pyright: ignore[reportGeneralTypeIssues]
    assert held >= stats.binom.ppf(0.001, 30, 0.9)  # percentile intervals are a little short
    scatter = 3.92 * rhos.std()
    assert np.mean([high - low for _, (low, high) in many]) > 0.75 * scatter  # pyright: ignore[reportGeneralTypeIssues]
    x, y = pictures(30, 25, 10)
    single = [[np.array([value]) for value in np.concatenate(v)] for v in (x, y)]
    _, pixels = rank_correlation(*single, np.arange(750))
    assert pixels is not None
    # The negative control; with more pixels it would be shorter still.
    assert pixels[1] - pixels[0] < 0.75 * scatter


def test_groups_are_drawn_whole() -> None:
    x, y = pictures(8, 50, 4)
    twice = rank_correlation(x + x, y + y, np.tile(np.arange(8), 2))
    once = rank_correlation(x, y, np.arange(8))
    assert twice[0] == pytest.approx(once[0])
    assert twice[1] == pytest.approx(once[1], abs=5e-3)  # ranks fall on other levels


def test_what_cannot_be_told_is_none() -> None:
    flat, other = [np.ones(5, np.float32)] * 2, [np.arange(5, dtype=np.float32)] * 2
    assert rank_correlation(flat, other, np.arange(2)) == (None, None)
    assert rank_correlation(other[:1], other[:1], np.arange(1))[1] is None
