from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from certes.errors import InputError
from certes.intervals import Bounds
from certes.intervals.families import FAMILIES, MIN_HALF_WIDTH, family_named

unit = st.floats(0, 1, width=32)
wide = st.floats(-0.5, 1.5, width=32)
families = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


def one_pixel(value: float) -> torch.Tensor:
    return torch.full((1, 1, 1, 1), value)


def bounds_of(values: list[float]) -> Bounds:
    lower, estimate, upper = sorted(values)
    return Bounds(one_pixel(lower), one_pixel(estimate), one_pixel(upper))


def covers(family, bounds: Bounds, size: float, truth: float) -> bool:
    return bool(family.apply(bounds, size).contains(one_pixel(truth)).all())


@families
@given(values=st.lists(wide, min_size=3, max_size=3), truth=unit)
def test_a_pixel_is_covered_at_its_critical_value(family, values, truth) -> None:
    bounds = bounds_of(values)
    critical = family.critical(bounds, one_pixel(truth)).item()
    assert covers(family, bounds, critical, truth)


@families
@given(values=st.lists(unit, min_size=3, max_size=3), truth=unit, size=st.floats(0, 1e4))
def test_a_pixel_is_covered_whenever_the_size_reaches_its_critical_value(
    family, values, truth, size
) -> None:
    bounds = bounds_of(values)
    if family.critical(bounds, one_pixel(truth)).item() <= size:
        assert covers(family, bounds, size, truth)


@families
@given(values=st.lists(unit, min_size=3, max_size=3), truth=unit)
def test_a_pixel_is_missed_below_its_critical_value(family, values, truth) -> None:
    bounds = bounds_of(values)
    critical = family.critical(bounds, one_pixel(truth)).item()
    lower_end = {"scale": 0.0, "additive": -1.0}[family.name]
    # Ends are rounded outwards to float32, so just below its critical value it may still be in.
    smaller = critical - 1e-5 * max(1.0, abs(critical)) - 1e-3 * abs(critical)
    far = abs(truth - bounds.estimate.item()) > 1e-4
    if smaller > lower_end and far:
        assert not covers(family, bounds, smaller, truth)


@families
@given(values=st.lists(wide, min_size=3, max_size=3), sizes=st.tuples(st.floats(0, 9), unit))
def test_intervals_are_nested_and_stay_inside_the_unit_range(family, values, sizes) -> None:
    bounds = bounds_of(values)
    lowest = {"scale": 0.0, "additive": -1.5}[family.name]
    small = family.apply(bounds, lowest + sizes[0])
    large = family.apply(bounds, lowest + sizes[0] + sizes[1])
    assert large.lower.item() <= small.lower.item()
    assert small.upper.item() <= large.upper.item()
    assert large.lower.item() >= 0
    assert large.upper.item() <= 1


def test_scale_in_closed_form() -> None:
    bounds = Bounds(one_pixel(0.25), one_pixel(0.5), one_pixel(0.625))
    scale = FAMILIES["scale"]
    for truth, expected in ((0.125, 1.5), (0.75, 2.0), (0.5, 0.0), (0.5625, 0.5)):
        assert scale.critical(bounds, one_pixel(truth)).item() == pytest.approx(expected, rel=1e-6)
    stretched = scale.apply(bounds, 1.5)
    assert stretched.lower.item() == pytest.approx(0.125, abs=1e-7)
    assert stretched.upper.item() == pytest.approx(0.6875, abs=1e-7)


def test_additive_in_closed_form() -> None:
    bounds = Bounds(one_pixel(0.25), one_pixel(0.5), one_pixel(0.625))
    additive = FAMILIES["additive"]
    for truth, expected in ((0.125, 0.125), (0.75, 0.125), (0.5625, -0.0625), (0.5, -1.0)):
        critical = additive.critical(bounds, one_pixel(truth)).item()
        assert critical == pytest.approx(expected, abs=1e-7)
    narrowed = additive.apply(bounds, -0.2)
    assert narrowed.lower.item() == pytest.approx(0.45, abs=1e-6)
    assert narrowed.upper.item() == pytest.approx(0.5, abs=1e-6)


def test_bounds_without_width_can_still_be_widened() -> None:
    flat = Bounds(one_pixel(0.5), one_pixel(0.5), one_pixel(0.5))
    critical = FAMILIES["scale"].critical(flat, one_pixel(0.75)).item()
    assert critical == pytest.approx(0.25 / MIN_HALF_WIDTH, rel=1e-6)


@families
def test_intervals_mirror_with_the_picture(family) -> None:
    rng = np.random.default_rng(0)
    lower, estimate, upper = torch.tensor(
        np.sort(rng.integers(0, 257, (3, 4, 1, 8, 8)) / 256, axis=0), dtype=torch.float32
    )
    truth = torch.tensor(rng.integers(0, 257, (4, 1, 8, 8)) / 256, dtype=torch.float32)
    upright = family.critical(Bounds(lower, estimate, upper), truth)
    mirrored = family.critical(Bounds(1 - upper, 1 - estimate, 1 - lower), 1 - truth)
    np.testing.assert_array_equal(upright, mirrored)


@families
@pytest.mark.parametrize("truth", [1.5, -0.1, float("nan")])
def test_refuses_a_truth_that_cutting_could_lose(family, truth) -> None:
    with pytest.raises(InputError, match="truth"):
        family.critical(bounds_of([0.1, 0.2, 0.3]), one_pixel(truth))


def test_refuses_an_unknown_family() -> None:
    with pytest.raises(InputError, match="'ratio' is unknown, known are scale, additive"):
        family_named("ratio")
