"""One system for each row, none aware of the others; and least squares by the same steps."""

from __future__ import annotations

import torch
from torch import Tensor

from certes.restoration.conjugate_gradients import conjugate_gradients, least_squares

from .operator_case import random

N = 24
TIGHT = {"rtol": 1e-8, "atol": 1e-9}


def systems(count: int) -> Tensor:
    """Positive definite matrices, from well to badly conditioned."""
    powers = torch.linspace(0, 2, count, dtype=torch.float64)
    roots = torch.linalg.qr(random(count, N, N)).Q
    values = torch.stack([torch.logspace(-float(p), 0, N, dtype=torch.float64) for p in powers])
    return roots @ torch.diag_embed(values) @ roots.mT


class Counted:
    """A stack of matrices as one linear map, with a count of its uses."""

    def __init__(self, matrices: Tensor) -> None:
        self.matrices, self.calls = matrices, 0

    def __call__(self, u: Tensor) -> Tensor:
        self.calls += 1
        return torch.einsum("bnm,bm->bn", self.matrices, u)


def test_conjugate_gradients_solve_every_row() -> None:
    matrices, right = systems(4), random(4, N, seed=3)
    torch.testing.assert_close(
        conjugate_gradients(Counted(matrices), right, 1e-12, 200),
        torch.linalg.solve(matrices, right),
        **TIGHT,
    )


def test_conjugate_gradients_stop_at_their_goal_or_their_limit() -> None:
    matrices, right = systems(4), random(4, N, seed=3)
    for row, matrix in enumerate(matrices):
        system = Counted(matrix[None])
        u = conjugate_gradients(system, right[row : row + 1], 0.05, 6)
        residual = (right[row] - matrix @ u[0]).norm() / right[row].norm()
        assert system.calls <= 6
        assert residual <= 0.05 or system.calls == 6


def test_a_row_does_not_depend_on_its_batch_mates() -> None:
    """Rows that stop early keep their answer while the others go on, and zero rows stay zero."""
    matrices, right = systems(4), random(4, N, seed=3)
    right[2] = 0.0
    together = conjugate_gradients(Counted(matrices), right, 0.05, 6)
    calls: list[int] = []
    for row in range(4):
        system = Counted(matrices[row : row + 1])
        alone = conjugate_gradients(system, right[row : row + 1], 0.05, 6)
        torch.testing.assert_close(together[row], alone[0], rtol=1e-12, atol=1e-12)
        calls.append(system.calls)
    assert calls[0] < calls[3]  # else the test would not show anything
    assert calls[2] == 0
    assert torch.equal(together[2], torch.zeros(N).double())


def test_least_squares_is_the_pseudo_inverse() -> None:
    """Also where the matrix has no full rank: the smallest of all best fits."""
    matrix = random(12, 6, seed=1) @ random(6, N, seed=2)
    y = random(3, 12, seed=4)

    def apply(x: Tensor) -> Tensor:
        return x.flatten(1) @ matrix.T

    def adjoint(y: Tensor) -> Tensor:
        return (y @ matrix).reshape(-1, 1, 4, 6)

    expected = (y @ torch.linalg.pinv(matrix).T).reshape(-1, 1, 4, 6)
    found = least_squares(apply, adjoint, y)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8)
    assert not torch.allclose(adjoint(y), expected, atol=0.1)
