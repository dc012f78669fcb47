from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from certes.errors import CalibrationError, InputError
from certes.intervals.critical import CriticalValues
from certes.intervals.probability import binomial_cdf, binomial_quantile, clopper_pearson
from certes.intervals.rules import RULES, Betting, HoeffdingBentkus, certify

HB, WSR = HoeffdingBentkus(), Betting()
rules = pytest.mark.parametrize("rule", RULES)


def errors(seed: int, images: int, pixels: int = 16) -> np.ndarray:
    rng = np.random.default_rng(seed)
    scales = np.exp(0.3 * rng.standard_normal((images, 1)))
    return scales * np.abs(rng.standard_normal((images, pixels)))


@pytest.mark.parametrize(
    ("n", "largest"), [(50, 0.0232), (100, 0.0424), (200, 0.06), (500, 0.074), (1000, 0.082)]
)
def test_hoeffding_bentkus_table(n: int, largest: float) -> None:
    assert HB.largest_mean(n, 0.1, 0.1) == pytest.approx(largest, abs=5e-5)


def test_hoeffding_bentkus_is_tight_at_its_limit() -> None:
    def probability(r: float, n: int) -> float:
        kl = r * math.log(r / 0.1) + (1 - r) * math.log((1 - r) / 0.9)
        return min(math.exp(-n * kl), math.e * binomial_cdf(math.ceil(n * r - 1e-9), n, 0.1))

    for n in (50, 200, 777):
        limit = HB.largest_mean(n, 0.1, 0.1)
        assert limit is not None
        assert probability(limit, n) <= 0.1 + 1e-12
        assert probability(limit + 1e-6, n) > 0.1


def test_smallest_number_of_units() -> None:
    assert HB.smallest_n(0.1, 0.1) == 22  # 0.9 ** 22 = 0.0985
    assert WSR.smallest_n(0.1, 0.1) == 25  # 1.1 ** 25 = 10.83


@rules
@pytest.mark.parametrize(("alpha", "delta"), [(0.1, 0.1), (0.05, 0.1), (0.02, 0.01), (0.5, 0.3)])
def test_smallest_n_suffices_and_is_smallest(rule: str, alpha: float, delta: float) -> None:
    n = RULES[rule].smallest_n(alpha, delta)
    assert np.isfinite(certify(CriticalValues.of_images(errors(0, n)), rule, alpha, delta))
    with pytest.raises(CalibrationError, match=f"{n - 1} independent .* at least {n} are needed"):
        certify(CriticalValues.of_images(errors(0, n - 1)), rule, alpha, delta)


@rules
@settings(deadline=None, max_examples=40)
@given(
    values=arrays(np.float32, (30, 3), elements=st.floats(0, 4, width=16)),
    alpha=st.sampled_from([0.1, 0.2, 0.4]),
)
def test_search_equals_brute_force_over_every_value(rule: str, values, alpha: float) -> None:
    units = CriticalValues.of_images(values)
    accepts = RULES[rule].acceptance(units, alpha, 0.1)
    accepted = [size for size in np.unique(values) if accepts(units.losses(float(size)))]
    assert certify(units, rule, alpha, 0.1) == min(accepted)


@rules
def test_search_is_exact_with_many_pixels(rule: str) -> None:
    units = CriticalValues.of_images(errors(0, 40, 500).astype(np.float32))
    size = certify(units, rule, 0.1, 0.1)
    accepts = RULES[rule].acceptance(units, 0.1, 0.1)
    below = units.values[units.values < size].max()
    assert accepts(units.losses(size))
    assert not accepts(units.losses(float(below)))


@rules
@settings(deadline=None)
@given(
    losses=arrays(float, 40, elements=st.floats(0, 0.3)),
    shares=arrays(float, 40, elements=st.floats(0, 1)),
)
def test_rules_are_monotone(rule: str, losses, shares) -> None:
    accepts = RULES[rule].acceptance(CriticalValues.of_images(errors(1, 40)), 0.2, 0.1)
    if accepts(losses):
        assert accepts(losses * shares)


def test_order_is_nothing_to_hoeffding_bentkus() -> None:
    units = CriticalValues.of_images(errors(3, 60))
    sizes = {certify(units.shuffled(seed), "hb", 0.1, 0.1) for seed in range(20)}
    assert len(sizes) == 1


def test_bets_look_back_only() -> None:
    values = errors(4, 400)
    bets = WSR.bets(CriticalValues.of_images(values), 0.1, 0.1)
    for t in (1, 50, 399):
        changed = values.copy()
        changed[t:] = 7.0
        later = WSR.bets(CriticalValues.of_images(changed), 0.1, 0.1)
        np.testing.assert_array_equal(later[: t + 1], bets[: t + 1])
    changed = values.copy()
    changed[:200] *= np.linspace(0.1, 3, 200)[:, None]
    assert not np.array_equal(WSR.bets(CriticalValues.of_images(changed), 0.1, 0.1), bets)


def test_capital_in_closed_form() -> None:
    # Thirty units of loss 0 first: (1 + 0.1 bet) ^ t reaches 10 only if bets are near their cap 1.
    units = CriticalValues.of_images(np.ones((30, 1)))
    bets = WSR.bets(units, 0.1, 0.1)
    accepts = WSR.acceptance(units, 0.1, 0.1)
    needed = int(np.argmax(np.cumprod(1 + 0.1 * bets) >= 10)) + 1
    assert accepts(np.r_[np.zeros(needed), np.ones(30 - needed)])
    assert not accepts(np.r_[np.zeros(needed - 1), np.ones(31 - needed)])


@rules
def test_groups_of_copies_are_as_good_as_one_image_each(rule: str) -> None:
    values = errors(5, 50)
    single = CriticalValues.of_images(values)
    copied = CriticalValues(np.repeat(values, 3, axis=0), np.repeat(np.arange(50), 3))
    assert copied.n == 50
    assert certify(copied, rule, 0.1, 0.1) == certify(single, rule, 0.1, 0.1)


def test_a_groups_loss_is_the_mean_over_its_images() -> None:
    units = CriticalValues(np.array([[1.0, 3.0], [3.0, 3.0], [1.0, 1.0]]), np.array([0, 0, 1]))
    np.testing.assert_array_equal(units.losses(2.0), [0.75, 0.0])


def test_infinite_critical_values_are_refused_not_capped() -> None:
    values = errors(6, 50)
    values[:25, 0] = np.inf
    with pytest.raises(CalibrationError, match="no finite interval size"):
        certify(CriticalValues.of_images(values), "wsr", 0.1, 0.1)


@pytest.mark.parametrize(
    ("rule", "alpha", "delta", "said"),
    [
        ("crc", 0.1, 0.1, "'crc' is unknown, known are wsr, hb"),
        ("wsr", 0.0, 0.1, "alpha: 0.0 is not between"),
        ("hb", 0.1, 1.0, "delta: 1.0 is not between"),
    ],
)
def test_refuses_unknown_rules_and_levels(rule, alpha, delta, said) -> None:
    with pytest.raises(InputError, match=said):
        certify(CriticalValues.of_images(errors(0, 50)), rule, alpha, delta)


def test_binomial_thresholds_and_intervals() -> None:
    assert binomial_quantile(0.999, 1000, 0.1) == 130
    assert binomial_quantile(0.999, 500, 0.1) == 72
    assert clopper_pearson(0, 20) == pytest.approx((0.0, 1 - 0.025 ** (1 / 20)))
    assert clopper_pearson(20, 20) == pytest.approx((0.025 ** (1 / 20), 1.0))
    assert clopper_pearson(8, 20) == pytest.approx((0.1912, 0.6395), abs=1e-4)
