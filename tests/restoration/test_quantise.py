"""Pixels of few grey levels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from certes.errors import InputError
from certes.restoration.operators import Quantise

from .operator_case import TIGHT, random


def pictures(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("levels", [2, 4, 7, 256])
def test_every_pixel_is_rounded_to_the_nearest_level(levels: int) -> None:
    H, x = Quantise((3, 6, 5), levels), pictures(2, 3, 6, 5)
    values = torch.arange(levels).double() / (levels - 1)
    nearest = values[(x[..., None] - values).abs().argmin(-1)]
    torch.testing.assert_close(H(x), nearest, **TIGHT)
    torch.testing.assert_close(H(H(x)), H(x), **TIGHT)
    single = H(x.float())
    assert single.dtype == torch.float32


def test_values_outside_the_range_become_black_or_white() -> None:
    y = Quantise((1, 1, 2), 4)(torch.tensor([[[[-5.0, 3.0]]]]))
    assert y.flatten().tolist() == [0.0, 1.0]


def test_pixels_lie_in_their_cells() -> None:
    H, x = Quantise((2, 4, 5), 6), pictures(3, 2, 4, 5)
    codes = H.encode(x)
    assert torch.equal(H.codes_of(H.decode(codes)), codes)
    off = (H.linear(x) - H.centres(codes)).abs()
    assert bool((off <= H.widths(x) / 2 + 1e-12).all())
    assert bool((off > 0.45 * H.widths(x)).any())


def test_values_are_the_pixels() -> None:
    M, x, y = Quantise((2, 3, 4), 5).linear, random(2, 2, 3, 4), random(2, 24, seed=1)
    assert torch.equal(M(x), x.flatten(1))
    assert torch.equal(M.independent(x.square()), x.square().flatten(1))
    left, right = (M(x) * y).sum(1), (x * M.adjoint(y)).flatten(1).sum(1)
    torch.testing.assert_close(left, right, **TIGHT)


def test_gradients_go_straight_through() -> None:
    x, v = pictures(1, 1, 3, 3).requires_grad_(), random(1, 1, 3, 3)
    (gradient,) = torch.autograd.grad((Quantise((1, 3, 3), 3)(x) * v).sum(), x)
    torch.testing.assert_close(gradient, v)


@pytest.mark.parametrize("levels", [1, 0, -3, 2.5])
def test_levels_must_be_two_or_more(levels: float) -> None:
    with pytest.raises(InputError, match=f"levels is {levels}; wanted a whole number, 2 or more"):
        Quantise((1, 2, 2), levels)  # pyright: ignore[reportArgumentType]


def test_describes_itself() -> None:
    described = Quantise((1, 2, 3), 4).describe()
    assert described == {"name": "quantise", "shape": [1, 2, 3], "levels": 4}
