"""Risk and width as functions of the size, against intervals made at that very size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from certes.intervals import Bounds, evaluate
from certes.intervals.curves import LEVELS, risk_curve, rung_scores
from certes.intervals.families import family_named


def raw(images: int = 6, side: int = 8, seed: int = 0) -> tuple[Bounds, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(images, 1, side, side, generator=generator)
    half = 0.02 + 0.2 * torch.rand(truth.shape, generator=generator)
    estimate = truth + half * torch.randn(truth.shape, generator=generator)
    return Bounds(estimate - half, estimate, estimate + half), truth


@pytest.mark.parametrize("family", ["scale", "additive"])
def test_risk_and_width_are_those_of_the_intervals(family: str) -> None:
    bounds, truth = raw()
    curve = risk_curve(bounds, truth, family=family)
    assert len(curve.sizes) > 8
    assert curve.limits is not None
    for i, size in enumerate(curve.sizes):
        scores = evaluate(family_named(family).apply(bounds, float(size)), truth)
        assert curve.risk[i] == pytest.approx(scores["risk"], abs=1e-12)
        assert curve.width[i] == pytest.approx(scores["width"], abs=1e-12)
        assert tuple(curve.limits[i]) == pytest.approx(scores["risk_interval"], abs=1e-12)


def test_sizes_are_the_smallest_that_realise_the_levels() -> None:
    bounds, truth = raw()
    curve = risk_curve(bounds, truth)
    for level in LEVELS[:8]:
        i = curve.at_most(level)
        assert i is not None
        assert curve.risk[i] <= level
        smaller = float(np.nextafter(np.float32(curve.sizes[i]), np.float32(0)))
        below = evaluate(family_named("scale").apply(bounds, smaller), truth)
        # Ends are rounded outwards: the next smaller size may still hold a pixel at its end.
        assert curve.risk[i] <= below["risk"]
        just_below = family_named("scale").apply(bounds, float(curve.sizes[i]) * (1 - 1e-4))
        assert evaluate(just_below, truth)["risk"] > level


def test_a_level_that_is_met_exactly_counts_as_met() -> None:
    """Each of ten pictures misses one in ten at size 1: the size for a risk of 0.1 is 1."""
    centre = torch.full((10, 1, 2, 5), 0.5)
    truth = centre + 0.1
    truth[:, 0, 0, 0] = 0.8
    curve = risk_curve(Bounds(centre - 0.125, centre, centre + 0.125), truth, levels=(0.1, 0.05))
    np.testing.assert_allclose(curve.sizes, [0.8, 2.4], rtol=1e-5)
    np.testing.assert_allclose(curve.risk, [0.1, 0])


def test_included_sizes_are_on_the_curve() -> None:
    curve = risk_curve(*raw(), include=(1.0, 50.0))
    assert {1.0, 50.0} <= set(curve.sizes.tolist())
    assert (np.diff(curve.sizes) > 0).all()
    assert (np.diff(curve.risk) <= 0).all()
    assert (np.diff(curve.width) >= 0).all()
    assert curve.at_most(-1.0) is None


def test_units_weigh_alike_whatever_their_size() -> None:
    one, other = raw(2, 8, seed=1), raw(2, 20, seed=2)
    both = risk_curve([one[0], other[0]], [one[1], other[1]], levels=(), include=(1.0,))
    alone = [risk_curve(*part, levels=(), include=(1.0,)) for part in (one, other)]
    assert both.risk[0] == pytest.approx((alone[0].risk[0] + alone[1].risk[0]) / 2)
    assert both.width[0] == pytest.approx((alone[0].width[0] + alone[1].width[0]) / 2)
    grouped = risk_curve(
        [one[0], other[0]], [one[1], other[1]], groups="aaab", levels=(), include=(1.0,)
    )
    parts = [evaluate(*pick(*other, i))["risk"] for i in (0, 1)]
    first = (alone[0].risk[0] * 2 + parts[0]) / 3
    assert grouped.risk[0] == pytest.approx((first + parts[1]) / 2, abs=1e-6)


def pick(bounds: Bounds, truth: torch.Tensor, i: int) -> tuple[Bounds, torch.Tensor]:
    planes = (p[i : i + 1] for p in (bounds.lower, bounds.estimate, bounds.upper))
    return Bounds(*planes), truth[i : i + 1]


def test_only_counted_pixels() -> None:
    bounds, truth = raw()
    counted = torch.zeros(truth.shape, dtype=torch.bool)
    counted[..., :3] = True
    left = [p[..., :3] for p in (bounds.lower, bounds.estimate, bounds.upper)]
    masked = risk_curve(bounds, truth, counted=counted)
    cut = risk_curve(Bounds(*left), truth[..., :3])
    np.testing.assert_array_equal(masked.sizes, cut.sizes)
    np.testing.assert_array_equal(masked.risk, cut.risk)
    np.testing.assert_allclose(masked.width, cut.width)
    assert not np.array_equal(masked.sizes, risk_curve(bounds, truth).sizes)


def test_a_single_unit_has_no_limits() -> None:
    assert risk_curve(*raw(1)).limits is None


def test_rungs_of_exact_quantiles_cover_what_they_say() -> None:
    """Rungs that are quantiles of the very law of the truth; halved, they do not."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(50, 1, 16, 16, generator=generator)
    centre = torch.full_like(truth, 0.5)
    nominal = (0.2, 0.5, 0.9)

    def ladder(shrink: float) -> Bounds:
        halves = [shrink * level / 2 for level in nominal]
        rungs = torch.stack([torch.stack([centre - h, centre + h]) for h in halves])
        return replace(Bounds(rungs[-1, 0], centre, rungs[-1, 1]), rungs=rungs)

    good, bad = rung_scores(ladder(1.0), truth), rung_scores(ladder(0.5), truth)
    for level, told, short in zip(nominal, good, bad, strict=True):
        assert told.coverage == pytest.approx(level, abs=0.02)
        assert told.width == pytest.approx(level, abs=1e-6)
        assert short.coverage == pytest.approx(level / 2, abs=0.02)
        assert told.interval is not None
        assert told.interval[0] <= told.coverage <= told.interval[1]
        assert told.interval[1] - told.interval[0] < 0.02
    assert rung_scores(*raw()) == []
