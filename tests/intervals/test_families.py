from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from certes.errors import InputError
from certes.intervals import Bounds
from certes.intervals.families import FAMILIES, MIN_HALF_WIDTH, family_named

unit = st.floats(0, 1, width=32)
wide = st.floats(-0.5, 1.5, width=32)
# Three ends of the bounds, and three more to either side for rungs.
ends = st.lists(wide, min_size=9, max_size=9)
families = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
LOWEST = {"scale": 0.0, "additive": -1.5, "ratio": 1e-3, "std": 0.0, "level": 0.0}


@dataclass(frozen=True)
class Weighted:
    """A shape with one weight a side."""

    below: float
    above: float

    def weights(self, bounds: Bounds, i: int):
        return self.below, np.full(bounds.estimate.shape[1:], self.above)


def one_pixel(value: float) -> torch.Tensor:
    return torch.full((1, 1, 1, 1), value, dtype=torch.float32)


def bounds_of(values: list[float]) -> Bounds:
    """Bounds of one pixel with the middle value as its estimate; the others are its rungs."""
    ordered = sorted(values)
    middle = len(values) // 2
    lower, estimate, upper = (one_pixel(ordered[middle + j]) for j in (-1, 0, 1))
    pairs = [(ordered[middle - j], ordered[middle + j]) for j in range(1, middle + 1)]
    rungs = torch.tensor(pairs, dtype=torch.float32).reshape(-1, 2, 1, 1, 1, 1)
    return Bounds(lower, estimate, upper, rungs=rungs)


def covers(family, bounds: Bounds, size: float, truth: float, shape=None) -> bool:
    return bool(family.apply(bounds, size, shape).contains(one_pixel(truth)).all())


def shape_for(family, weights: tuple[float, float]) -> Weighted | None:
    return Weighted(*weights) if family.takes_shape else None


weights = st.tuples(st.floats(0.25, 4), st.floats(0.25, 4))
few = settings(max_examples=30, deadline=None)


@families
@few
@given(values=ends, truth=unit, weight=weights)
def test_a_pixel_is_covered_at_its_critical_value(family, values, truth, weight) -> None:
    bounds = bounds_of(values)
    for shape in (None, shape_for(family, weight)):
        critical = family.critical(bounds, one_pixel(truth), shape).item()
        assert np.isinf(critical) or covers(family, bounds, critical, truth, shape)


@families
@few
@given(values=ends, truth=unit, size=st.floats(0, 1e4), weight=weights)
def test_a_pixel_is_covered_whenever_the_size_reaches_its_critical_value(
    family, values, truth, size, weight
) -> None:
    bounds = bounds_of(values)
    for shape in (None, shape_for(family, weight)):
        if family.critical(bounds, one_pixel(truth), shape).item() <= size:
            assert covers(family, bounds, size, truth, shape)


@families
@few
@given(
    values=st.lists(unit, min_size=9, max_size=9, unique_by=lambda v: round(v, 3)),
    truth=unit,
    weight=weights,
)
def test_a_pixel_is_missed_below_its_critical_value(family, values, truth, weight) -> None:
    bounds = bounds_of(values)
    for shape in (None, shape_for(family, weight)):
        critical = min(family.critical(bounds, one_pixel(truth), shape).item(), 1e6)
        # Ends are rounded outwards to float32, so just below its critical value it may still be in.
        smaller = critical - 1e-5 * max(1.0, abs(critical)) - 1e-3 * abs(critical)
        far = abs(truth - bounds.estimate.item()) > 1e-3
        if smaller > max(LOWEST[family.name], -1.0) and far:
            assert not covers(family, bounds, smaller, truth, shape)


@families
@few
@given(values=ends, sizes=st.tuples(st.floats(0, 9), unit), weight=weights)
def test_intervals_are_nested_and_stay_inside_the_unit_range(family, values, sizes, weight) -> None:
    bounds, lowest = bounds_of(values), LOWEST[family.name]
    shape = shape_for(family, weight)
    small = family.apply(bounds, lowest + sizes[0], shape)
    large = family.apply(bounds, lowest + sizes[0] + sizes[1], shape)
    assert large.lower.item() <= small.lower.item()
    assert small.upper.item() <= large.upper.item()
    assert large.lower.item() >= 0
    assert large.upper.item() <= 1


@dataclass(frozen=True)
class Own:
    """A shape that gives every pixel the size it asks for."""

    size: np.ndarray

    def weights(self, bounds: Bounds, i: int):
        return self.size[i].astype(np.float64), self.size[i].astype(np.float64)


def many_pixels() -> tuple[Bounds, torch.Tensor]:
    """Pixels of all sorts: anywhere, nearly zero, equal to one another, barely apart."""
    rng = np.random.default_rng(0)
    values = rng.random((10, 4, 1, 200, 200))
    values[:, 1] = np.round(8 * values[:, 1]) / 8
    values[:, 2] *= 2.0 ** -rng.integers(0, 60, values[:, 2].shape)
    values[:, 3] = 0.5 + 1e-6 * values[:, 3]
    truth, ladder = values[9], np.sort(values[:9], axis=0)
    pairs = np.stack([np.stack([ladder[4 - j], ladder[4 + j]]) for j in range(1, 5)])
    lower, estimate, upper = torch.tensor(ladder[3:6], dtype=torch.float32)
    rungs = torch.tensor(pairs, dtype=torch.float32)
    return Bounds(lower, estimate, upper, rungs=rungs), torch.tensor(truth, dtype=torch.float32)


@pytest.mark.parametrize("name", ["scale", "ratio", "std", "level"])
def test_every_pixel_is_covered_at_its_own_critical_value(name: str) -> None:
    bounds, truth = many_pixels()
    family = FAMILIES[name]
    critical = family.critical(bounds, truth)
    finite = torch.as_tensor(np.isfinite(critical))
    own = np.where(np.isfinite(critical), critical, 1)
    assert bool(family.apply(bounds, 1.0, Own(own)).contains(truth)[finite].all())
    larger = family.apply(bounds, 1.0, Own(own * (1 + np.float32(1e-4))))
    assert bool(larger.contains(truth)[finite].all())
    # Criticals rounded down instead of up would lose pixels, so this can fail.
    short = np.nextafter(own, np.float32(-np.inf))
    assert not bool(family.apply(bounds, 1.0, Own(short)).contains(truth)[finite].all())


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


def test_ratio_in_closed_form() -> None:
    bounds = Bounds(one_pixel(0.25), one_pixel(0.4), one_pixel(0.5))
    ratio = FAMILIES["ratio"]
    for truth, expected in ((0.125, 2.0), (0.75, 1.5), (0.4, 0.0), (0.45, 0.9), (0.3, 0.25 / 0.3)):
        assert ratio.critical(bounds, one_pixel(truth)).item() == pytest.approx(expected, rel=1e-6)
    wider, narrowest = ratio.apply(bounds, 1.25), ratio.apply(bounds, 0.1)
    assert wider.lower.item() == pytest.approx(0.2, abs=1e-7)
    assert wider.upper.item() == pytest.approx(0.625, abs=1e-7)
    assert narrowest.lower.item() == narrowest.upper.item() == bounds.estimate.item()


def test_dark_pixels_never_widen_under_ratio() -> None:
    ratio = FAMILIES["ratio"]
    black = Bounds(one_pixel(0), one_pixel(0), one_pixel(0))
    grey = Bounds(one_pixel(0.1), one_pixel(0.2), one_pixel(0.3))
    assert np.isinf(ratio.critical(black, one_pixel(0.1)).item())
    assert np.isinf(ratio.critical(grey, one_pixel(0.0)).item())
    assert ratio.critical(black, one_pixel(0.0)).item() == 0
    assert ratio.apply(black, 1e6).upper.item() == 0
    for other in ("scale", "std", "additive", "level"):
        laddered = Bounds(
            black.lower, black.estimate, black.upper, rungs=torch.zeros(1, 2, 1, 1, 1, 1)
        )
        assert np.isfinite(FAMILIES[other].critical(laddered, one_pixel(0.1)).item())


def test_the_reviews_ratio_is_not_nested() -> None:
    """[lambda l, lambda u], as the text has it, covers a truth and then loses it again."""
    lower, upper, truth = 0.2, 0.4, 0.3
    covered = [size * lower <= truth <= size * upper for size in (0.5, 1.0, 2.0)]
    assert covered == [False, True, False]


def test_std_in_closed_form() -> None:
    bounds = Bounds(one_pixel(0.25), one_pixel(0.5), one_pixel(0.625))
    std = FAMILIES["std"]
    half = 0.1875
    for truth in (0.125, 0.5, 0.5625, 0.75):
        expected = abs(truth - 0.5) / half
        assert std.critical(bounds, one_pixel(truth)).item() == pytest.approx(expected, rel=1e-6)
    stretched = std.apply(bounds, 2.0)
    assert stretched.lower.item() == pytest.approx(0.125, abs=1e-7)
    assert stretched.upper.item() == pytest.approx(0.875, abs=1e-7)


def test_level_in_closed_form() -> None:
    rungs = torch.tensor([[0.45, 0.5625], [0.375, 0.75]]).reshape(2, 2, 1, 1, 1, 1)
    bounds = Bounds(one_pixel(0.25), one_pixel(0.5), one_pixel(0.625), rungs=rungs)
    level = FAMILIES["level"]
    known = {0.5: 0.0, 0.475: 0.25, 0.45: 0.5, 0.375: 1.0, 0.25: 2.0, 0.65625: 0.75, 1.0: 2.0}
    for truth, expected in known.items():
        critical = level.critical(bounds, one_pixel(truth)).item()
        assert critical == pytest.approx(expected, rel=1e-6)
    for size, low, high in ((0.5, 0.45, 0.5625), (1, 0.375, 0.75), (1.5, 0.3125, 0.875)):
        interval = level.apply(bounds, size)
        assert interval.lower.item() == pytest.approx(low, abs=1e-7)
        assert interval.upper.item() == pytest.approx(high, abs=1e-7)
    with pytest.raises(InputError, match="'level' needs rungs"):
        level.apply(Bounds(bounds.lower, bounds.estimate, bounds.upper), 1.0)


def test_bounds_without_width_can_still_be_widened() -> None:
    flat = bounds_of([0.5] * 5)
    for name in ("scale", "std", "level"):
        critical = FAMILIES[name].critical(flat, one_pixel(0.75)).item()
        assert critical == pytest.approx(0.25 / MIN_HALF_WIDTH, rel=1e-6)


def test_a_shape_divides_the_critical_value_of_its_side() -> None:
    bounds = bounds_of([0.3, 0.4, 0.5, 0.7, 0.9])
    shape = Weighted(below=2.0, above=0.5)
    for name in ("scale", "ratio", "std", "level"):
        family = FAMILIES[name]
        for truth, weight in ((0.35, 2.0), (0.8, 0.5)):
            alike = family.critical(bounds, one_pixel(truth)).item()
            shaped = family.critical(bounds, one_pixel(truth), shape).item()
            assert shaped == pytest.approx(alike / weight, rel=1e-6)
    interval = FAMILIES["scale"].apply(bounds, 0.5, shape)
    assert interval.lower.item() == pytest.approx(0.4, abs=1e-6)
    assert interval.upper.item() == pytest.approx(0.55, abs=1e-6)
    with pytest.raises(InputError, match="shape: the family 'additive' takes none"):
        FAMILIES["additive"].critical(bounds, one_pixel(0.5), shape)


@dataclass(frozen=True)
class ByColumn:
    """A shape whose weights rise from left to right."""

    def weights(self, bounds: Bounds, i: int):
        row = np.linspace(0.5, 2, bounds.estimate.shape[-1])
        below = np.broadcast_to(row, bounds.estimate.shape[1:])
        return below, 1 / below


@families
def test_large_pictures_are_their_crops(family) -> None:
    """In stretches and threads or in one go, with weights of every pixel's own."""
    generator = torch.Generator().manual_seed(0)
    ladder = torch.rand(7, 2, 3, 128, 160, generator=generator).sort(dim=0).values
    rungs = torch.stack([torch.stack([ladder[3 - j], ladder[3 + j]]) for j in (1, 2, 3)])
    bounds = Bounds(ladder[2], ladder[3], ladder[4], rungs=rungs)
    truth = torch.rand(2, 3, 128, 160, generator=generator)
    shape = ByColumn() if family.takes_shape else None
    whole = family.critical(bounds, truth, shape)
    interval = family.apply(bounds, 1.1, shape)
    for row in (0, 57, 127):
        cut = slice(row, row + 1)
        ends = (e[:, :, cut] for e in (bounds.lower, bounds.estimate, bounds.upper))
        crop = Bounds(*ends, rungs=rungs[:, :, :, :, cut])
        np.testing.assert_array_equal(
            family.critical(crop, truth[:, :, cut], shape), whole[:, :, cut]
        )
        assert torch.equal(family.apply(crop, 1.1, shape).lower, interval.lower[:, :, cut])
        assert torch.equal(family.apply(crop, 1.1, shape).upper, interval.upper[:, :, cut])


@pytest.mark.parametrize("name", ["scale", "additive", "std", "level"])
def test_intervals_mirror_with_the_picture(name) -> None:
    rng = np.random.default_rng(0)
    family = FAMILIES[name]
    ladder = torch.tensor(
        np.sort(rng.integers(0, 257, (5, 4, 1, 8, 8)) / 256, axis=0), dtype=torch.float32
    )
    truth = torch.tensor(rng.integers(0, 257, (4, 1, 8, 8)) / 256, dtype=torch.float32)

    def critical(ladder: torch.Tensor, truth: torch.Tensor):
        rungs = torch.stack([torch.stack([ladder[2 - j], ladder[2 + j]]) for j in (1, 2)])
        return family.critical(Bounds(*ladder[1:4], rungs=rungs), truth)

    np.testing.assert_array_equal(critical(ladder, truth), critical(1 - ladder.flip(0), 1 - truth))


@families
@pytest.mark.parametrize("truth", [1.5, -0.1, float("nan")])
def test_refuses_a_truth_that_cutting_could_lose(family, truth) -> None:
    with pytest.raises(InputError, match="truth"):
        family.critical(bounds_of([0.1, 0.2, 0.3]), one_pixel(truth))


def test_refuses_an_unknown_family() -> None:
    with pytest.raises(InputError, match="'sum' is unknown, known are scale, additive, ratio"):
        family_named("sum")
