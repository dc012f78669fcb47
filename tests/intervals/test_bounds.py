from __future__ import annotations

import pytest
import torch

from certes.errors import InputError
from certes.intervals import Bounds, Provenance


def level(value: float) -> torch.Tensor:
    return torch.full((2, 1, 3, 4), value)


def test_width_and_contains_include_the_ends() -> None:
    bounds = Bounds(level(0.25), level(0.5), level(0.75))
    assert torch.equal(bounds.width, level(0.5))
    assert bounds.contains(level(0.25)).all()
    assert bounds.contains(level(0.75)).all()
    assert not bounds.contains(level(0.76)).any()
    assert not bounds.contains(level(0.24)).any()


@pytest.mark.parametrize(
    ("lower", "estimate", "upper", "said"),
    [
        (level(0.6), level(0.5), level(0.7), "Bounds.ordered"),
        (level(0.4), level(0.8), level(0.7), "Bounds.ordered"),
        (level(0.4), level(0.5).double(), level(0.7), "float32"),
        (level(0.4)[0], level(0.5), level(0.7), "B, C, H, W"),
        (level(0.4)[:1], level(0.5), level(0.7), "does not match"),
        (level(float("nan")), level(0.5), level(0.7), "lower: .*not finite"),
        (level(0.4)[:0], level(0.5)[:0], level(0.7)[:0], "no pixels"),
    ],
)
def test_refuses_what_is_no_interval(lower, estimate, upper, said) -> None:
    with pytest.raises(InputError, match=said):
        Bounds(lower, estimate, upper)


def test_ordered_widens_only_as_far_as_the_estimate() -> None:
    bounds = Bounds.ordered(level(0.6), level(0.5), level(0.7))
    assert torch.equal(bounds.lower, level(0.5))
    assert torch.equal(bounds.upper, level(0.7))


def rungs(*pairs: tuple[float, float]) -> torch.Tensor:
    return torch.stack([torch.stack([level(low), level(high)]) for low, high in pairs])


def test_rungs_are_nested_intervals_about_the_estimate() -> None:
    ladder = rungs((0.5, 0.5), (0.45, 0.6), (0.45, 0.9))
    bounds = Bounds(level(0.4), level(0.5), level(0.7), rungs=ladder)
    assert bounds.rungs is ladder
    with pytest.raises(AttributeError):
        bounds.rungs = None  # type: ignore[misc]


@pytest.mark.parametrize(
    ("ladder", "said"),
    [
        (rungs((0.45, 0.6), (0.46, 0.7)), "number 1 does not enclose the one before it"),
        (rungs((0.45, 0.6), (0.4, 0.59)), "number 1 does not enclose the one before it"),
        (rungs((0.51, 0.6)), "number 0 does not enclose the estimate"),
        (rungs((0.4, float("inf"))), "not finite"),
        (rungs((0.4, float("nan"))), "number 0"),
        (rungs((0.4, 0.6)).double(), "float32"),
        (rungs((0.4, 0.6))[:, :1], "rungs, 2, 2, 1, 3, 4"),
        (rungs((0.4, 0.6))[:0], "rungs, 2, 2, 1, 3, 4"),
    ],
)
def test_refuses_rungs_that_are_no_ladder(ladder, said) -> None:
    with pytest.raises(InputError, match=f"rungs: .*{said}"):
        Bounds(level(0.4), level(0.5), level(0.7), rungs=ladder)


def test_ordered_widens_rungs_as_well() -> None:
    ladder = rungs((0.55, 0.6), (0.52, 0.7), (0.4, 0.8))
    bounds = Bounds.ordered(level(0.4), level(0.5), level(0.7), rungs=ladder)
    assert bounds.rungs is not None
    assert torch.equal(bounds.rungs, rungs((0.5, 0.6), (0.5, 0.7), (0.4, 0.8)))


def test_provenance_names_every_difference_and_both_values() -> None:
    mine = Provenance("abc", "deblur", noise=0.1, samples=16)
    theirs = Provenance("abc", "inpaint", noise=0.2, samples=16)
    assert mine.differences(theirs) == [
        "operator: 'deblur', not 'inpaint'",
        "noise: 0.1, not 0.2",
    ]
    assert mine.differences(mine) == []
