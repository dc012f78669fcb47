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
from certes.intervals.rules import (
    RULES,
    Bernstein,
    Betting,
    ConformalRiskControl,
    Hoeffding,
    HoeffdingBentkus,
    MeanRule,
    MonotoneRule,
    Promise,
    certify,
)

HB, WSR, BERNSTEIN = HoeffdingBentkus(), Betting(), Bernstein()
MONOTONE = {name: rule for name, rule in RULES.items() if isinstance(rule, MonotoneRule)}
rules = pytest.mark.parametrize("rule", RULES)
monotone = pytest.mark.parametrize("rule", MONOTONE)


def errors(seed: int, images: int, pixels: int = 16) -> np.ndarray:
    rng = np.random.default_rng(seed)
    scales = np.exp(0.3 * rng.standard_normal((images, 1)))
    return scales * np.abs(rng.standard_normal((images, pixels)))


@pytest.mark.parametrize(
    ("rule", "limits"),
    [
        (HB, {50: 0.0232, 100: 0.0424, 200: 0.06, 500: 0.074, 1000: 0.082}),
        (Hoeffding(), {200: 0.0241, 500: 0.0520, 1000: 0.0661}),
        (ConformalRiskControl(), {50: 0.082, 100: 0.091, 200: 0.0955, 500: 0.0982, 1000: 0.0991}),
    ],
)
def test_largest_mean_loss_table(rule: MeanRule, limits: dict[int, float]) -> None:
    for n, largest in limits.items():
        assert rule.largest_mean(n, 0.1, 0.1) == pytest.approx(largest, abs=6e-5)


def test_hoeffding_bentkus_is_tight_at_its_limit() -> None:
    def probability(r: float, n: int) -> float:
        kl = r * math.log(r / 0.1) + (1 - r) * math.log((1 - r) / 0.9)
        return min(math.exp(-n * kl), math.e * binomial_cdf(math.ceil(n * r - 1e-9), n, 0.1))

    for n in (50, 200, 777):
        limit = HB.largest_mean(n, 0.1, 0.1)
        assert probability(limit, n) <= 0.1 + 1e-12
        assert probability(limit + 1e-6, n) > 0.1


def test_empirical_bernstein_in_closed_form() -> None:
    # k losses of 1 among n: the mean is k / n, the sample variance k (n - k) / (n (n - 1)).
    n, k, log = 400, 8, math.log(2 / 0.05)
    losses = np.r_[np.ones(k), np.zeros(n - k)][:, None]
    expected = k / n + math.sqrt(2 * k * (n - k) / (n * (n - 1)) * log / n) + 7 * log / 3 / (n - 1)
    assert BERNSTEIN.upper_bound(losses, 0.05) == pytest.approx([expected], rel=1e-12)


def test_empirical_bernstein_is_the_narrower_the_less_losses_vary() -> None:
    same, varied = np.full((200, 1), 0.05), np.r_[np.ones(10), np.zeros(190)][:, None]
    assert BERNSTEIN.upper_bound(same, 0.1) < BERNSTEIN.upper_bound(varied, 0.1) - 0.03


def test_smallest_number_of_units() -> None:
    assert {name: rule.smallest_n(0.1, 0.1) for name, rule in RULES.items()} == {
        "wsr": 25,  # 1.1 ** 25 = 10.83
        "hb": 22,  # 0.9 ** 22 = 0.0985
        "hoeffding": 116,  # log(10) / (2 * 0.01) = 115.1
        "bernstein": 71,  # 7 log(20) / 0.3 = 69.9
        "crc": 9,  # 1 / (9 + 1)
        "image": 9,
    }


@rules
@pytest.mark.parametrize(("alpha", "delta"), [(0.1, 0.1), (0.05, 0.1), (0.02, 0.01), (0.4, 0.3)])
def test_smallest_n_suffices_and_is_smallest(rule: str, alpha: float, delta: float) -> None:
    n = RULES[rule].smallest_n(alpha, delta)
    assert np.isfinite(certify(CriticalValues.of_images(errors(0, n)), rule, alpha, delta))
    with pytest.raises(CalibrationError, match=f"{n - 1} independent .* at least {n} are needed"):
        certify(CriticalValues.of_images(errors(0, n - 1)), rule, alpha, delta)


@rules
def test_below_its_smallest_n_a_rule_could_accept_nothing(rule: str) -> None:
    n = RULES[rule].smallest_n(0.1, 0.1) - 1
    units, nothing = CriticalValues.of_images(np.ones((n, 1))), np.zeros(n)
    if rule in MONOTONE:
        assert not MONOTONE[rule].acceptance(units, 0.1, 0.1, 0.1)(nothing)
    else:
        assert BERNSTEIN.upper_bound(nothing[:, None], 0.1) > 0.1


@rules
def test_a_refusal_says_that_pixels_do_not_count(rule: str) -> None:
    with pytest.raises(CalibrationError, match="pixels of one image are not independent") as caught:
        certify(CriticalValues.of_images(errors(0, 5, 1000)), rule, 0.1, 0.1)
    assert ("delta" in str(caught.value)) == RULES[rule].needs_delta


@monotone
@settings(deadline=None, max_examples=40)
@given(
    values=arrays(np.float32, (30, 3), elements=st.floats(0, 4, width=16)),
    alpha=st.sampled_from([0.1, 0.25, 0.4]),
)
def test_search_equals_brute_force_over_every_value(rule: str, values, alpha: float) -> None:
    if RULES[rule].smallest_n(alpha, 0.1) > 30:
        return
    units = CriticalValues.of_images(values)
    accepts = MONOTONE[rule].acceptance(units, alpha, 0.1, 0.3)
    accepted = [size for size in np.unique(values) if accepts(units.losses(float(size)))]
    assert certify(units, rule, alpha, 0.1, 0.3) == min(accepted)


@settings(deadline=None, max_examples=40)
@given(
    values=arrays(np.float32, (30, 3), elements=st.floats(0, 4, width=16)),
    alpha=st.sampled_from([0.3, 0.5, 0.7]),
)
def test_bernstein_equals_a_scan_from_the_top(values, alpha: float) -> None:
    units = CriticalValues.of_images(values)
    sizes, losses = units.table()
    kept = float(sizes[-1])
    for size, column in zip(sizes[::-1].tolist(), losses.T[::-1], strict=True):
        log = math.log(2 / 0.1)
        spread = math.sqrt(2 * np.var(column, ddof=1) * log / 30)
        if column.mean() + spread + 7 * log / (3 * 29) > alpha:
            break
        kept = size
    assert certify(units, "bernstein", alpha, 0.1) == kept


def test_bernstein_stops_at_the_first_rejection_although_smaller_sizes_would_pass() -> None:
    # At size 4 one unit differs from 99, at size 2 none does: a larger mean, a smaller bound.
    values = np.tile([1.0, 9.0], (100, 1))
    values[0] = [1.0, 3.0]
    units = CriticalValues.of_images(values)
    bounds = [float(BERNSTEIN.upper_bound(units.losses(s)[:, None], 0.1)[0]) for s in (4.0, 2.0)]
    alpha = sum(bounds) / 2
    assert bounds[1] < alpha < bounds[0]
    assert certify(units, "bernstein", alpha, 0.1) == 9.0


@monotone
def test_search_is_exact_with_many_pixels(rule: str) -> None:
    units = CriticalValues.of_images(errors(0, 130, 500).astype(np.float32))
    size = certify(units, rule, 0.1, 0.1)
    accepts = MONOTONE[rule].acceptance(units, 0.1, 0.1, 0.1)
    below = units.values[units.values < size].max()
    assert accepts(units.losses(size))
    assert not accepts(units.losses(float(below)))


def test_crc_is_an_order_statistic() -> None:
    # All or nothing: k images missed of n, (k + 1) / (n + 1) <= 0.1 leaves 4 of 49 uncovered.
    values = np.random.default_rng(0).random((49, 1)).astype(np.float32)
    assert certify(CriticalValues.of_images(values), "crc", 0.1, 0.1) == np.sort(values, None)[-5]


def test_image_rule_is_an_order_statistic_of_the_images_own() -> None:
    values = errors(2, 49, 20).astype(np.float32)
    per_image = np.sort(values, axis=1)[:, -3]  # 2 of 20 pixels may be missed
    size = certify(CriticalValues.of_images(values), "image", 0.1, 0.1, 0.1)
    assert size == np.sort(per_image)[-5]
    stricter = certify(CriticalValues.of_images(values), "image", 0.1, 0.1, 0.04)
    assert stricter == np.sort(values.max(axis=1))[-5]


@monotone
@settings(deadline=None)
@given(
    losses=arrays(float, 40, elements=st.floats(0, 0.3)),
    shares=arrays(float, 40, elements=st.floats(0, 1)),
)
def test_rules_are_monotone(rule: str, losses, shares) -> None:
    units = CriticalValues.of_images(errors(1, 40))
    accepts = MONOTONE[rule].acceptance(units, 0.2, 0.1, 0.1)
    if accepts(losses):
        assert accepts(losses * shares)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "wsr"])
def test_order_is_nothing_to_rules_that_do_not_bet(rule: str) -> None:
    units = CriticalValues.of_images(errors(3, 130))
    sizes = {certify(units.shuffled(seed), rule, 0.1, 0.1) for seed in range(20)}
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
    accepts = WSR.acceptance(units, 0.1, 0.1, 0.1)
    needed = int(np.argmax(np.cumprod(1 + 0.1 * bets) >= 10)) + 1
    assert accepts(np.r_[np.zeros(needed), np.ones(30 - needed)])
    assert not accepts(np.r_[np.zeros(needed - 1), np.ones(31 - needed)])


@rules
def test_groups_of_copies_are_as_good_as_one_image_each(rule: str) -> None:
    values = errors(5, 130)
    single = CriticalValues.of_images(values)
    copied = CriticalValues(np.repeat(values, 3, axis=0), np.repeat(np.arange(130), 3))
    assert copied.n == 130
    assert certify(copied, rule, 0.1, 0.1) == certify(single, rule, 0.1, 0.1)


def test_a_groups_loss_is_the_mean_over_its_images() -> None:
    units = CriticalValues(np.array([[1.0, 3.0], [3.0, 3.0], [1.0, 1.0]]), np.array([0, 0, 1]))
    np.testing.assert_array_equal(units.losses(2.0), [0.75, 0.0])


@rules
def test_infinite_critical_values_are_refused_not_capped(rule: str) -> None:
    values = errors(6, 130, 4)
    values[:65, 0] = np.inf
    with pytest.raises(CalibrationError, match="no finite interval size"):
        certify(CriticalValues.of_images(values), rule, 0.1, 0.1)


def test_words_with_a_delta() -> None:
    for name in ("wsr", "hb", "hoeffding", "bernstein"):
        said = RULES[name].words(Promise(0.1, 0.05, 200))
        assert said == (
            "With probability at least 0.95 over the choice of the 200 images used for calibration,"
            " the intervals miss the true value at no more than 10 % of the pixels of a new image"
            " of the same kind, on average over such images."
        )
    said = RULES["wsr"].words(Promise(0.1, 0.05, 30, grouped=True, counted=True))
    assert "30 groups of images" in said
    assert "10 % of the counted pixels of a new group of images" in said


def test_words_of_rules_that_promise_an_average_say_so() -> None:
    said = RULES["crc"].words(Promise(0.1, None, 200))
    for part in ("only on average", "200 images", "10 % of the pixels", "may well be larger"):
        assert part in said
    assert "probability" not in said
    said = RULES["image"].words(Promise(0.05, None, 30, True, 0.2, True))
    for part in (
        "With probability at least 0.95, a new group of images",
        "at least 80 % of its counted pixels",
        "on average over its images",
        "30 groups of images",
        "it may be smaller",
    ):
        assert part in said


@pytest.mark.parametrize(
    ("rule", "alpha", "delta", "tolerance", "said"),
    [
        ("sum", 0.1, 0.1, 0.1, "'sum' is unknown, known are wsr, hb, hoeffding, bernstein, crc, i"),
        ("wsr", 0.0, 0.1, 0.1, "alpha: 0.0 is not between"),
        ("hb", 0.1, 1.0, 0.1, "delta: 1.0 is not between"),
        ("image", 0.1, 0.1, 0.0, "tolerance: 0.0 is not between"),
    ],
)
def test_refuses_unknown_rules_and_levels(rule, alpha, delta, tolerance, said) -> None:
    with pytest.raises(InputError, match=said):
        certify(CriticalValues.of_images(errors(0, 50)), rule, alpha, delta, tolerance)


def test_binomial_thresholds_and_intervals() -> None:
    assert binomial_quantile(0.999, 1000, 0.1) == 130
    assert binomial_quantile(0.999, 500, 0.1) == 72
    assert clopper_pearson(0, 20) == pytest.approx((0.0, 1 - 0.025 ** (1 / 20)))
    assert clopper_pearson(20, 20) == pytest.approx((0.025 ** (1 / 20), 1.0))
    assert clopper_pearson(8, 20) == pytest.approx((0.1912, 0.6395), abs=1e-4)
