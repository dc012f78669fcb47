import math

import pytest
import torch

from certes.function_space.physical_kernel import lattice_kernel, refinement, tap_weights


def test_refinement() -> None:
    assert [refinement(p) for p in (1.0, 0.5, 1 / 3, 1 / 7)] == [1, 2, 3, 7]
    assert [refinement(p) for p in (2.0, 1.5, 0.4, 0.9)] == [None] * 4


@pytest.mark.parametrize("pitch", [1.0, 0.5, 1 / 3, 0.4, 1.5, 2.0])
def test_every_offset_counts_once(pitch: float) -> None:
    weights = tap_weights(3, pitch)
    assert weights.shape[1] == 7
    assert torch.allclose(weights.sum(0), torch.ones(7, dtype=torch.float64))
    # Linear interpolation is exact for linear functions.
    pixels = torch.arange(len(weights)) - len(weights) // 2
    offsets = torch.arange(-3, 4).double()
    assert torch.allclose((pixels * pitch).double() @ weights, offsets)


def test_kernel_of_a_divided_pitch_is_spread() -> None:
    table = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0))
    fine = lattice_kernel(table, 0.5)
    assert torch.equal(fine[:, ::2, ::2], table)
    assert float(fine[:, 1::2].abs().max()) == 0


def test_second_order_in_the_pitch() -> None:
    """Of a smooth function, the error of a kernel falls as the square of the pitch."""
    table = torch.randn(1, 7, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    wave = 0.4

    def answer(pitch: float) -> float:
        kernel = lattice_kernel(table, pitch)[0]
        at = (torch.arange(len(kernel)) - len(kernel) // 2) * pitch * wave
        return float((kernel * torch.outer(at.cos(), at.cos())).sum())

    exact = answer(1.0)
    # Pitches whose pixels meet no offset: the farther half-way, the larger the error.
    errors = [abs(answer(pitch) - exact) for pitch in (2 / 3, 2 / 5, 2 / 9)]
    slopes = [
        math.log(a / b) / math.log(p / q)
        for (a, p), (b, q) in zip(
            zip(errors, (2 / 3, 2 / 5), strict=False),
            zip(errors[1:], (2 / 5, 2 / 9), strict=False),
            strict=False,
        )
    ]
    assert all(1.7 < slope < 2.3 for slope in slopes), slopes
