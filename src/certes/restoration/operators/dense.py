"""Any linear measurement of a small picture, given as a matrix."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from certes.errors import InputError
from certes.restoration.operators.axes import DenseAxis
from certes.restoration.operators.base import DecomposedOperator, as_tensor, checked_shape


class Dense(DecomposedOperator):
    r""":math:`y = A x` with the pixels of x in the order (channel, row, column).

    Decomposed once, in float64, by LAPACK: :math:`O(n^3)` time and :math:`O(m^2 + n^2)` memory, the
    one operator of this package that is not matrix-free. For n up to some thousands.

    Args:
        matrix: (m, n).
        shape: (C, H, W) of a picture, C H W = n; by default one row of grey pixels, (1, 1, n).

    Raises:
        InputError: a matrix that is empty, all zero or not finite, or a shape of another size.
    """

    name = "dense"

    def __init__(
        self, matrix: Float[Tensor, "m n"], shape: tuple[int, int, int] | None = None
    ) -> None:
        matrix = _checked_matrix(as_tensor(matrix))
        m, n = matrix.shape
        shape = checked_shape((1, 1, n) if shape is None else shape)
        if math.prod(shape) != n:
            raise InputError(
                f"shape is {shape}, {math.prod(shape)} values; the matrix ({m} x {n}) wants {n}"
            )
        self._axis = DenseAxis(matrix)
        digest = hashlib.blake2b(matrix.contiguous().numpy().tobytes(), digest_size=16)
        self._digest = digest.hexdigest()
        super().__init__(shape, (m,), self._axis.singular_values)

    def _V(self, coefficients: Float[Tensor, "b n"]) -> Float[Tensor, "b c h w"]:
        return self._axis.v(coefficients).reshape(-1, *self.in_shape)

    def _Vt(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        return self._axis.vt(x.flatten(1))

    def _U(self, coefficients: Float[Tensor, "b m"]) -> Float[Tensor, "b m"]:
        return self._axis.u(coefficients)

    def _Ut(self, y: Float[Tensor, "b m"]) -> Float[Tensor, "b m"]:
        return self._axis.ut(y)

    def _apply(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b m"]:
        return self._axis.apply(x.flatten(1))

    def _adjoint(self, y: Float[Tensor, "b m"]) -> Float[Tensor, "b c h w"]:
        return self._axis.adjoint(y).reshape(-1, *self.in_shape)

    def _parameters(self) -> dict[str, Any]:
        return {"measurements": self.m, "digest": self._digest}


def _checked_matrix(matrix: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise InputError(
            f"matrix has shape {tuple(matrix.shape)}; wanted (measurements, pixels), neither zero"
        )
    matrix = matrix.detach().to("cpu", torch.float64)
    if not bool(matrix.isfinite().all()) or not bool(matrix.any()):
        raise InputError("matrix is all zero or not finite; wanted finite entries, rank at least 1")
    return matrix
