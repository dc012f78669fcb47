"""Consistency: what the measurement saw must agree, what it did not may be anything."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from certes.errors import InputError
from certes.evaluation.consistency import Consistency, consistency, summary
from certes.evaluation.metrics import psnr
from certes.restoration.operators import Edges, Inpaint, SuperResolution, box_mask

SHAPE = (1, 16, 16)


def pictures(count: int, seed: int = 0) -> Tensor:
    """Multiples of 1/256, so that means of four are exact."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, *SHAPE), generator=generator).double() / 256


def checkerboard() -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    return ((rows + columns) % 2 * 2 - 1).double().expand(1, 1, 16, 16)


def test_what_super_resolution_cannot_see_costs_nothing() -> None:
    H, truth = SuperResolution(SHAPE, 2), pictures(2)
    invisible = checkerboard() / 4
    samples = torch.stack([truth + invisible, truth + 0.1, truth + 0.1 * invisible + 0.01])
    values = consistency(samples, truth, H)
    assert values.shape == (3, 2)
    assert values[0].min() > 200  # rounding alone
    assert values[1:].flatten().tolist() == pytest.approx([20, 20, 40, 40], abs=1e-4)
    # The control: the pictures themselves are far apart.
    assert psnr(samples[0], truth).max() < 13


@pytest.mark.parametrize("side", [4, 12])
def test_holes_are_those_of_the_operator_and_do_not_count(side: int) -> None:
    known, truth = box_mask(16, 16, (2, 2, side, side)), pictures(2)
    H = Inpaint(SHAPE, known)
    filled = torch.where(known, truth, 0.5)
    off = torch.where(known, truth + 0.1, 0.5)
    values = consistency(torch.stack([filled, off]), truth, H)
    assert values[0].isinf().all()
    assert values[1].tolist() == pytest.approx([20, 20], abs=1e-4)
    # The controls: another mask sees the filling, and holes that count hide a part of the error.
    other = Inpaint(SHAPE, box_mask(16, 16, (2, 4, side, side)))
    assert consistency(filled[None], truth, other).max() < 30
    assert psnr(H(off), H(truth)).min() > 20 + 0.2


def test_edges_differ_by_their_share() -> None:
    H = Edges(SHAPE)
    truth = torch.zeros(1, *SHAPE).double()
    drawn = truth.clone()
    drawn[..., 8:] = 1
    values = consistency(torch.stack([truth, drawn]), truth, H)
    # One column of 16 differs by 1: a mean squared error of 1/16.
    assert values[0].isinf().all()
    assert float(values[1]) == pytest.approx(12.0412, abs=1e-3)


def test_infinite_values_are_counted_apart() -> None:
    inf = float("inf")
    assert summary(torch.tensor([[20.0, inf], [30.0, inf]])) == Consistency(25.0, 0.5)
    assert summary(torch.tensor([[inf]])) == Consistency(None, 1.0)
    assert summary(torch.tensor([[20.0]])) == Consistency(20.0, 0.0)


@pytest.mark.parametrize("shape", [(2, 1, 16, 16), (3, 1, 1, 16, 16), (3, 2, 1, 16, 15)])
def test_samples_are_draws_of_the_truth(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"wanted \(K, 2, 1, 16, 16\)"):
        consistency(torch.zeros(shape), torch.zeros(2, *SHAPE), SuperResolution(SHAPE, 2))
