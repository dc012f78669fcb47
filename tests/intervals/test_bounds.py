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


def test_provenance_names_every_difference_and_both_values() -> None:
    mine = Provenance("abc", "deblur", noise=0.1, samples=16)
    theirs = Provenance("abc", "inpaint", noise=0.2, samples=16)
    assert mine.differences(theirs) == [
        "operator: 'deblur', not 'inpaint'",
        "noise: 0.1, not 0.2",
    ]
    assert mine.differences(mine) == []
