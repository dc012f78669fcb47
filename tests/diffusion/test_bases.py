"""Bases are orthonormal and the cosine one is the DCT-II."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from certes.diffusion import bases
from certes.diffusion.bases import Basis, CosineBasis, IdentityBasis, SingularBasis

SIZES = [(1, 1), (1, 6), (5, 1), (2, 2), (3, 4), (4, 3), (7, 5), (8, 8)]


class Permutation:
    """Singular vectors that are pixels in another order: the smallest thing with V and Vt."""

    def __init__(self, n: int) -> None:
        self.order = torch.randperm(n, generator=torch.Generator().manual_seed(1))

    def Vt(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, self.order]

    def V(self, coefficients: torch.Tensor) -> torch.Tensor:
        return coefficients[:, self.order.argsort()].reshape(-1, 2, 3, 4)


def pictures(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize(
    "basis", [IdentityBasis(), CosineBasis(), SingularBasis(Permutation(24))], ids=type
)
class TestEveryBasis:
    def test_inverse_undoes_forward_on_both_sides(self, basis: Basis) -> None:
        x = pictures(5, 2, 3, 4)
        torch.testing.assert_close(basis.inverse(basis.forward(x)), x, rtol=0, atol=1e-12)
        torch.testing.assert_close(basis.forward(basis.inverse(x)), x, rtol=0, atol=1e-12)

    def test_inverse_is_the_adjoint(self, basis: Basis) -> None:
        x, c = pictures(2, 5, 2, 3, 4)
        assert torch.allclose((basis.forward(x) * c).sum(), (x * basis.inverse(c)).sum())

    def test_any_number_of_leading_axes(self, basis: Basis) -> None:
        x = pictures(4, 5, 2, 3, 4)
        torch.testing.assert_close(basis.forward(x)[1, 2], basis.forward(x[1, 2]))
        torch.testing.assert_close(basis.inverse(x)[1, 2], basis.inverse(x[1, 2]))


@pytest.mark.parametrize("size", SIZES)
def test_cosine_basis_is_the_orthonormal_dct_ii(size: tuple[int, int]) -> None:
    x = pictures(2, 3, *size)
    reference = torch.from_numpy(dctn(x.numpy(), axes=(-2, -1), norm="ortho"))
    torch.testing.assert_close(CosineBasis().forward(x), reference, rtol=0, atol=1e-12)
    torch.testing.assert_close(CosineBasis().inverse(reference), x, rtol=0, atol=1e-12)


def test_cosine_basis_in_single_precision() -> None:
    x = pictures(1, 1, 37, 64, dtype=torch.float32)
    reference = dctn(x.double().numpy(), axes=(-2, -1), norm="ortho")
    c = CosineBasis().forward(x)
    assert c.dtype == torch.float32
    assert np.abs(c.numpy() - reference).max() < 1e-5


def test_tables_made_in_inference_mode_serve_a_backward_pass() -> None:
    x = pictures(1, 1, 9, 11)
    with torch.inference_mode():
        CosineBasis().forward(x)
    x.requires_grad_()
    c = CosineBasis().inverse(CosineBasis().forward(x))
    (gradient,) = torch.autograd.grad(c.square().sum() / 2, x)
    torch.testing.assert_close(gradient, x.detach(), rtol=0, atol=1e-12)


def test_planes_one_by_one_are_planes_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large pictures are transformed channel by channel, for the sake of memory."""
    x = torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    together = CosineBasis().forward(x)
    monkeypatch.setattr(bases, "_AT_ONCE", 8)
    apart = CosineBasis().forward(x)
    torch.testing.assert_close(apart, together, rtol=0, atol=1e-14)
    torch.testing.assert_close(CosineBasis().inverse(apart), x, rtol=0, atol=1e-13)
