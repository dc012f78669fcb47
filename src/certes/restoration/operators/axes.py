r"""Singular value decompositions along one axis of a picture: the factors of separable operators.

All maps act on the last axis and leave the others alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from certes.diffusion.bases import CosineBasis
from certes.restoration.operators.constants import Constant

Boundary = Literal["reflect", "zero", "circular"]


class Axis(ABC):
    r"""A matrix :math:`A = U S V^T` of shape (size_out, size_in), with complete U and V.

    Args:
        size_in: length of the axis before.
        singular_values: (size_out,); an axis of a picture does not grow, size_out <= size_in.
    """

    def __init__(self, size_in: int, singular_values: Float[Tensor, " out"]) -> None:
        self.size_in = size_in
        self.size_out = len(singular_values)
        self.singular_values = singular_values

    @abstractmethod
    def apply(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """:math:`A x`."""

    @abstractmethod
    def adjoint(self, y: Float[Tensor, "*batch out"]) -> Float[Tensor, "*batch in"]:
        """:math:`A^T y`."""

    @abstractmethod
    def v(self, coefficients: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch in"]:
        """:math:`V` times the coefficients, those of the singular values first."""

    @abstractmethod
    def vt(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch in"]:
        """:math:`V^T x`."""

    @abstractmethod
    def u(self, coefficients: Float[Tensor, "*batch out"]) -> Float[Tensor, "*batch out"]:
        """:math:`U` times the coefficients."""

    @abstractmethod
    def ut(self, y: Float[Tensor, "*batch out"]) -> Float[Tensor, "*batch out"]:
        """:math:`U^T y`."""


class DenseAxis(Axis):
    """Any matrix, decomposed numerically; its size is that of one side of the picture, squared.

    Args:
        matrix: (size_out, size_in).
    """

    def __init__(self, matrix: Float[Tensor, "out in"]) -> None:
        u, s, vt = singular_values_and_vectors(matrix)
        super().__init__(matrix.shape[1], s)
        self._matrix, self._u, self._vt = Constant(matrix), Constant(u), Constant(vt)

    def apply(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """:math:`A x`, without the detour through singular vectors."""
        return matmul(x, self._matrix.like(x).mT)

    def adjoint(self, y: Float[Tensor, "*batch out"]) -> Float[Tensor, "*batch in"]:
        """:math:`A^T y`."""
        return matmul(y, self._matrix.like(y))

    def v(self, coefficients: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch in"]:
        """:math:`V` times the coefficients."""
        return matmul(coefficients, self._vt.like(coefficients))

    def vt(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch in"]:
        """:math:`V^T x`."""
        return matmul(x, self._vt.like(x).mT)

    def u(self, coefficients: Float[Tensor, "*batch out"]) -> Float[Tensor, "*batch out"]:
        """:math:`U` times the coefficients."""
        return matmul(coefficients, self._u.like(coefficients).mT)

    def ut(self, y: Float[Tensor, "*batch out"]) -> Float[Tensor, "*batch out"]:
        """:math:`U^T y`."""
        return matmul(y, self._u.like(y))


class BlockMeanAxis(Axis):
    r"""The mean of every ``factor`` neighbours.

    Each block is analysed by a small cosine transform: its first function is constant, hence the
    singular vector (singular value :math:`1/\sqrt{factor}`), the others complete the basis. U = I.

    Args:
        size: length of the axis, a multiple of ``factor``.
        factor: length of a block.
    """

    def __init__(self, size: int, factor: int) -> None:
        self._blocks = (size // factor, factor)
        super().__init__(size, torch.full((size // factor,), factor**-0.5, dtype=torch.float64))
        impulses = torch.eye(factor, dtype=torch.float64)[:, :, None]
        self._cosines = Constant(CosineBasis().forward(impulses)[:, :, 0])

    def apply(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """Block means."""
        return _folded(x, *self._blocks).mean(-1)

    def adjoint(self, y: Float[Tensor, "*batch out"]) -> Float[Tensor, "*batch in"]:
        """Each mean back to its block, divided by the size of the block."""
        return (y / self._blocks[1]).repeat_interleave(self._blocks[1], dim=-1)

    def v(self, coefficients: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch in"]:
        """Blocks from their cosine coefficients, those of order zero first."""
        by_block = _folded(coefficients, *self._blocks[::-1]).mT
        return matmul(by_block, self._cosines.like(coefficients).mT).flatten(-2)

    def vt(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch in"]:
        """Cosine coefficients of the blocks, those of order zero first."""
        return matmul(_folded(x, *self._blocks), self._cosines.like(x)).mT.flatten(-2)

    def u(self, coefficients: Float[Tensor, "*batch out"]) -> Float[Tensor, "*batch out"]:
        """The coefficients themselves."""
        return coefficients

    def ut(self, y: Float[Tensor, "*batch out"]) -> Float[Tensor, "*batch out"]:
        """``y`` itself."""
        return y


def singular_values_and_vectors(
    matrix: Float[Tensor, "a b"],
) -> tuple[Float[Tensor, "a a"], Float[Tensor, " r"], Float[Tensor, "b b"]]:
    """``U``, the singular values and ``V^T``, both bases complete."""
    u, s, vt = cast(Any, torch.linalg).svd(matrix, full_matrices=True)  # torch leaves it untyped
    return u, s, vt


def stencil_matrix(
    taps: Float[Tensor, "out taps"], sources: Int[Tensor, "out taps"], size: int, boundary: Boundary
) -> Float[Tensor, "out in"]:
    """The matrix whose row i sums ``taps[i] * x[sources[i]]``.

    Args:
        taps: weights.
        sources: positions, which may lie outside 0 ... size - 1.
        size: length of the axis.
        boundary: what lies outside: ``zero``, ``reflect`` (edge pixel repeated, as scipy.ndimage's
            ``reflect``) or ``circular``.
    """
    inside = (sources >= 0) & (sources < size)
    if boundary == "reflect":
        period = sources % (2 * size)
        sources = torch.where(period < size, period, 2 * size - 1 - period)
    else:
        sources = sources % size
        taps = taps if boundary == "circular" else torch.where(inside, taps, 0.0)
    matrix = torch.zeros(len(taps), size, dtype=torch.float64)
    return matrix.scatter_add_(1, sources, taps.double())


def _folded(x: Float[Tensor, "*batch ab"], a: int, b: int) -> Float[Tensor, "*batch a b"]:
    return x.reshape(*x.shape[:-1], a, b)


def matmul(x: Float[Tensor, "*batch a"], matrix: Float[Tensor, "a b"]) -> Float[Tensor, "*batch b"]:
    """A product in the precision of ``x`` even inside a network's autocast region."""
    with torch.autocast(x.device.type, enabled=False):
        return x @ matrix
