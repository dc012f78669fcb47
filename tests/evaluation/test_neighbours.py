"""Precision and recall on sets where both are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from certes.errors import InputError
from certes.evaluation.neighbours import precision_recall


def normal(n: int, d: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def brute(real: Tensor, generated: Tensor, k: int) -> tuple[float, float]:
    def among(x: Tensor, others: Tensor) -> float:
        radii = [sorted(float((o - p).norm()) for p in others)[k] for o in others]
        held = [
            any(float((v - o).norm()) <= r for o, r in zip(others, radii, strict=True)) for v in x
        ]
        return sum(held) / len(x)

    return among(generated, real), among(real, generated)


def test_equal_sets() -> None:
    x = normal(200)
    assert precision_recall(x, x.flip(0)) == (1, 1)


def test_sets_far_apart() -> None:
    assert precision_recall(normal(200), 100 + normal(200, seed=1)) == (0, 0)


def test_half_of_the_real_modes() -> None:
    """Copies of one of two real modes are all precise and reach half; the other way about too."""
    mode = normal(100)
    both = torch.cat([mode, 100 + normal(100, seed=1)])
    assert precision_recall(both, mode) == (1, 0.5)
    assert precision_recall(mode, both) == (0.5, 1)


def test_samples_of_one_distribution_score_more_than_of_a_wider_one() -> None:
    real = normal(500)
    precision, recall = precision_recall(real, normal(500, seed=1))
    wide_precision, wide_recall = precision_recall(real, 2 * normal(500, seed=1))
    narrow_precision, narrow_recall = precision_recall(real, 0.3 * normal(500, seed=1))
    assert wide_precision < 0.5 * precision
    assert narrow_recall < 0.5 * recall
    assert narrow_precision > precision
    assert wide_recall > 0.5 * recall


@pytest.mark.parametrize("k", [1, 3])
def test_as_by_hand(k: int) -> None:
    real, generated = normal(40, 3), 0.5 + normal(30, 3, seed=1)
    expected = brute(real, generated, k)
    assert precision_recall(real, generated, k) == pytest.approx(expected)
    assert all(0 < value < 1 for value in expected)


def test_blocks_change_nothing() -> None:
    real, generated = normal(50, 3), 0.5 + normal(41, 3, seed=1)
    assert precision_recall(real, generated, block=7) == precision_recall(real, generated)


def test_repeated_pictures_far_from_zero() -> None:
    """Radii of zero hold equal pictures in spite of rounding, and no others."""
    different = 1e4 + normal(50, 700)
    repeated = different.repeat_interleave(4, dim=0)
    assert precision_recall(repeated, torch.cat([different] * 5)) == (1, 1)
    assert precision_recall(repeated, repeated + 0.1) == (0, 0)


def test_too_few() -> None:
    with pytest.raises(InputError, match="3 nearest neighbours need 4"):
        precision_recall(normal(3), normal(10))
