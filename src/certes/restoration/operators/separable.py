"""Operators that act on rows and columns apart: Kronecker products of two small matrices."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from certes.restoration.operators.axes import Axis
from certes.restoration.operators.base import DecomposedOperator


class Separable(DecomposedOperator):
    r""":math:`H x = A_r x A_c^T` for every channel, where x is (H, W).

    With :math:`A = U S V^T` for each, the singular values are all products of one of the rows' and
    one of the columns', for every channel again: coefficients run over (channel, row, column).
    Memory is that of the small matrices, :math:`O(H^2 + W^2)`.

    Args:
        shape: (C, H, W) of a picture.
        rows: acts along the height.
        columns: acts along the width.
    """

    def __init__(self, shape: tuple[int, int, int], rows: Axis, columns: Axis) -> None:
        out_shape = (shape[0], rows.size_out, columns.size_out)
        products = torch.outer(rows.singular_values, columns.singular_values)
        super().__init__(shape, out_shape, products.expand(out_shape).flatten())
        self._rows, self._columns = rows, columns

    def _V(self, coefficients: Float[Tensor, "b n"]) -> Float[Tensor, "b c h w"]:
        return _along(self._rows.v, self._columns.v, self._unpacked(coefficients))

    def _Vt(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        return self._packed(_along(self._rows.vt, self._columns.vt, x))

    def _U(self, coefficients: Float[Tensor, "b m"]) -> Float[Tensor, "b c h2 w2"]:
        return _along(self._rows.u, self._columns.u, coefficients.reshape(-1, *self.out_shape))

    def _Ut(self, y: Float[Tensor, "b c h2 w2"]) -> Float[Tensor, "b m"]:
        return _along(self._rows.ut, self._columns.ut, y).flatten(1)

    def _apply(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        return _along(self._rows.apply, self._columns.apply, x)

    def _adjoint(self, y: Float[Tensor, "b c h2 w2"]) -> Float[Tensor, "b c h w"]:
        return _along(self._rows.adjoint, self._columns.adjoint, y)

    def _packed(self, c: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        return torch.cat([part.flatten(1) for part in self._parts(c)], dim=1)

    def _unpacked(self, coefficients: Float[Tensor, "b n"]) -> Float[Tensor, "b c h w"]:
        c = coefficients.new_empty(len(coefficients), *self.in_shape)
        parts = self._parts(c)
        sizes = [math.prod(part.shape[1:]) for part in parts]
        for part, values in zip(parts, torch.split(coefficients, sizes, dim=1), strict=True):
            part.copy_(values.reshape(part.shape))
        return c

    def _parts(self, c: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b c h2 w2"]]:
        """Views: the corner that belongs to singular values, then the rest of the null space."""
        _, height, width = self.out_shape
        return [c[..., :height, :width], c[..., :height, width:], c[..., height:, :]]


def _along(
    rows: Callable[[Tensor], Tensor],
    columns: Callable[[Tensor], Tensor],
    x: Float[Tensor, "b c h w"],
) -> Float[Tensor, "b c h2 w2"]:
    """``columns`` along the width, then ``rows`` along the height."""
    return rows(columns(x).mT).mT
