from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from certes.intervals.critical import (
    SAMPLE,
    CriticalValues,
    Histogram,
    Histograms,
    Units,
    bin_edges,
    bin_numbers,
    down,
    up,
)

quick = settings(max_examples=40, deadline=None)
value = st.one_of(st.floats(-1, 4, width=16), st.floats(-2, 5000, width=32), st.just(np.inf))


@st.composite
def ragged(draw) -> tuple[list[np.ndarray], np.ndarray]:
    """Images of unequal numbers of pixels, and the group of each; every group is used."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=6))
    images = [draw(arrays(np.float32, size, elements=value)) for size in sizes]
    labels = [draw(st.integers(0, len(sizes) - 1)) for _ in sizes]
    return images, np.unique(labels, return_inverse=True)[1]


def binned(images: list[np.ndarray], unit: np.ndarray) -> Histograms:
    digests = CriticalValues(images, unit)._digests()
    return Histograms([Histogram.of(image) for image in images], unit, digests)


def plain_losses(images: list[np.ndarray], unit: np.ndarray, size: float) -> list[float]:
    """Loss of every unit, by its definition."""
    shares = [float(np.mean(image > size)) for image in images]
    return [float(np.mean([s for s, u in zip(shares, unit, strict=True) if u == k]))
            for k in range(unit.max() + 1)]  # fmt: skip


def mean_at_most(limit: float):
    return lambda losses: float(np.mean(losses)) <= limit + 1e-12


def smallest_by_brute_force(images, unit, accepts) -> float | None:
    sizes = [v for v in np.unique(np.concatenate(images)) if np.isfinite(v)]
    accepted = [v for v in sizes if accepts(np.array(plain_losses(images, unit, v)))]
    return float(min(accepted)) if accepted else None


@quick
@given(case=ragged(), size=value)
def test_losses_are_unit_means_of_shares(case, size) -> None:
    units = CriticalValues(*case)
    expected = plain_losses(*case, size)
    np.testing.assert_allclose(units.losses(size), expected, rtol=0, atol=1e-12)
    assert units.n == len(expected)


@quick
@given(case=ragged(), limit=st.floats(0, 1))
def test_the_search_is_exact(case, limit) -> None:
    accepts = mean_at_most(limit)
    expected = smallest_by_brute_force(*case, accepts)
    assert CriticalValues(*case).smallest_accepted(accepts) == expected


def test_the_search_is_exact_with_many_pixels() -> None:
    rng = np.random.default_rng(0)
    images = [rng.random(size).astype(np.float32) for size in (5000, 300, 7, 20000)]
    units = CriticalValues.of_images(images)
    accepts = mean_at_most(0.1)
    size = units.smallest_accepted(accepts)
    assert size is not None
    below = units.values[units.values < size].max()
    assert accepts(units.losses(size))
    assert not accepts(units.losses(float(below)))


@quick
@given(case=ragged(), limit=st.floats(0, 1))
def test_histograms_end_at_the_exact_size_rounded_up(case, limit) -> None:
    accepts = mean_at_most(limit)
    exact = CriticalValues(*case).smallest_accepted(accepts)
    streamed = binned(*case).smallest_accepted(accepts)
    if exact is None or exact > 4900:  # rounded up it may be larger than what is finite
        return
    assert streamed == rounded(exact)
    assert streamed >= exact
    if exact > 1e-5:
        assert streamed <= 1.008 * exact


def rounded(size: float) -> float:
    return float(bin_edges(bin_numbers(np.array([size], np.float32)))[0])


def test_histograms_rounded_down_would_not_be_conservative() -> None:
    rng = np.random.default_rng(0)
    images = list(rng.random((20, 50)).astype(np.float32))
    unit, accepts = np.arange(20), mean_at_most(0.1)
    sound = binned(images, unit)
    lowered = [Histogram(h.bins - 1, h.counts, h.sample) for h in sound.images]
    unsound = Histograms(lowered, unit, sound.digests).smallest_accepted(accepts)
    exact = CriticalValues(images, unit).smallest_accepted(accepts)
    assert exact is not None
    assert unsound is not None
    assert unsound < exact


@quick
@given(case=ragged(), size=st.floats(-2, 10))
def test_losses_of_histograms_are_never_smaller(case, size) -> None:
    exact, streamed = CriticalValues(*case), binned(*case)
    assert (streamed.losses(size) >= exact.losses(size)).all()
    np.testing.assert_array_equal(streamed.losses(rounded(size)), exact.losses(rounded(size)))


@quick
@given(values=arrays(np.float32, 20, elements=st.floats(-(2.0**99), 2.0**99, width=32)))
def test_bins_round_up_and_keep_the_order(values) -> None:
    edges = bin_edges(bin_numbers(values))
    assert (edges >= values).all()
    np.testing.assert_array_equal(bin_edges(bin_numbers(edges)), edges)
    ordered = np.sort(values)
    assert (np.diff(bin_numbers(ordered)) >= 0).all()
    plain = np.abs(values) > 2.0**-20
    gaps = (edges - values.astype(np.float64))[plain]
    assert (gaps <= 2.0**-8 * np.abs(values[plain].astype(np.float64))).all()


def test_bins_of_special_values() -> None:
    special = np.array([0.0, -0.0, np.inf, 1.0, 1.5, -1.0, -0.75, 1e-30, -1e-30], np.float32)
    expected = [0.0, 0.0, np.inf, 1.0, 1.5, -1.0, -0.75, 2.0**-20, 0.0]
    assert bin_edges(bin_numbers(special)).tolist() == expected
    assert bin_edges(bin_numbers(np.array([1.0001, -1.0001], np.float32))).tolist() == [
        1 + 2.0**-8,
        -1.0,
    ]


def test_rounding_to_float32() -> None:
    third = 1 / 3
    assert float(down(third)) < third < float(up(np.array([third]))[0])
    assert down(0.5) == 0.5 == up(np.array([0.5]))[0]
    assert up(np.array([1e300]))[0] == np.inf
    assert np.isfinite(down(1e300))
    # A bare comparison would take 1.1 for its neighbour in float32 and miss that it is exceeded.
    units = CriticalValues.of_images(np.array([[np.float32(1.1)]]))
    assert units.losses(1.1).tolist() == [1.0]
    assert units.losses(float(np.float32(1.1))).tolist() == [0.0]


def in_order(units: Units, sizes=(0.1, 0.5, 1.0, 2.0)) -> list[list[float]]:
    return [units.losses(size).tolist() for size in sizes]


@quick
@given(case=ragged(), seed=st.integers(0, 99), data=st.data())
def test_the_shuffled_order_does_not_depend_on_the_order_given(case, seed, data) -> None:
    images, unit = case
    order = data.draw(st.permutations(range(len(images))))
    names = data.draw(st.permutations(range(unit.max() + 1)))
    moved = [images[i] for i in order], np.array(names)[unit[list(order)]]
    expected = in_order(CriticalValues(*case).shuffled(seed))
    assert in_order(CriticalValues(*moved).shuffled(seed)) == expected
    sizes = [rounded(size) for size in (0.1, 0.5, 1.0, 2.0)]
    first, second = (binned(*c).shuffled(seed) for c in (case, moved))
    assert in_order(first, sizes) == in_order(second, sizes)
    assert in_order(first, sizes) == in_order(CriticalValues(*case).shuffled(seed), sizes)


def test_shuffling_moves_units_and_seeds_differ() -> None:
    images = np.arange(20.0).reshape(20, 1)
    units = CriticalValues.of_images(images)
    orders = {tuple(units.shuffled(seed).losses(9.5)) for seed in range(5)}
    assert len(orders) == 5
    assert tuple(units.losses(9.5)) not in orders
    assert all(sum(order) == 10 for order in orders)


@quick
@given(case=ragged())
def test_tables_hold_the_losses_at_their_sizes(case) -> None:
    for units in (CriticalValues(*case), binned(*case)):
        sizes, losses = units.table()
        assert np.isfinite(sizes).all()
        assert (np.diff(sizes) > 0).all()
        assert losses.shape == (units.n, len(sizes))
        for size, column in zip(sizes.tolist(), losses.T, strict=True):
            np.testing.assert_allclose(column, units.losses(size), rtol=0, atol=1e-15)
        # Nothing changes above the last size, and below the first one everything is missed.
        np.testing.assert_array_equal(losses[:, -1], units.losses(1e30))
        below = np.nextafter(np.concatenate(case[0]).min(), np.float32(-np.inf))
        assert (units.losses(float(below)) == 1).all()


def test_infinite_values_are_missed_and_do_not_stop_the_others() -> None:
    values = np.ones((10, 4), np.float32)
    values[0, 0] = np.inf
    for units in (CriticalValues.of_images(values), binned(list(values), np.arange(10))):
        assert units.smallest_accepted(mean_at_most(0.03)) == 1
        assert units.smallest_accepted(mean_at_most(0.02)) is None
    nothing = np.full((3, 2), np.inf, np.float32)
    for units in (CriticalValues.of_images(nothing), binned(list(nothing), np.arange(3))):
        assert units.smallest_accepted(mean_at_most(0.5)) is None
        assert (units.table()[1] == 1).all()


def test_first_units_and_thinned_pixels() -> None:
    rng = np.random.default_rng(0)
    images = [rng.random(size).astype(np.float32) for size in (3000, 2000, 50, 3000)]
    unit = np.array([1, 0, 2, 1])
    for units in (CriticalValues(images, unit), binned(images, unit)):
        early = units.first(2)
        assert early.n == 2
        np.testing.assert_array_equal(early.losses(0.5), units.losses(0.5)[:2])
        thin = units.thinned(SAMPLE)
        assert thin.pixels.tolist() == [SAMPLE, SAMPLE, 50, SAMPLE]
        np.testing.assert_allclose(thin.losses(0.5), units.losses(0.5), atol=0.06)
    # Bets are set from the thinned values: exact and streamed ones must agree on them.
    exact, streamed = (u.thinned(SAMPLE) for u in (CriticalValues(images, unit), units))
    np.testing.assert_array_equal(exact.values, streamed.values)
    whole = CriticalValues(images[2:3], np.array([0]))
    assert whole.thinned(SAMPLE) is whole


def test_doubles_are_rounded_up() -> None:
    doubles = np.random.default_rng(0).random((3, 40))
    units = CriticalValues.of_images(doubles)
    assert units.values.dtype == np.float32
    assert (units.values >= doubles.ravel()).all()
    singles = CriticalValues.of_images(units.values.reshape(3, 40))
    assert in_order(units.shuffled(1)) == in_order(singles.shuffled(1))


@pytest.mark.parametrize("layout", ["C", "F"])
def test_layout_in_memory_is_nothing(layout) -> None:
    values = np.random.default_rng(0).random((6, 9)).astype(np.float32)
    units = CriticalValues.of_images(np.asarray(values, order=layout)).shuffled(4)
    assert in_order(units) == in_order(CriticalValues.of_images(list(values)).shuffled(4))
