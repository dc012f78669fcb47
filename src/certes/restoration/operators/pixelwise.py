"""Operators that are diagonal in the pixels themselves."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from certes.restoration.operators.base import DecomposedOperator


class Pixelwise(DecomposedOperator):
    """Every pixel times a number of its own: U = V = I.

    Args:
        factors: (C, H, W), not negative: the singular values.
    """

    def __init__(self, factors: Float[Tensor, "c h w"]) -> None:
        channels, height, width = factors.shape
        shape = (channels, height, width)
        super().__init__(shape, shape, factors.flatten())

    def _V(self, coefficients: Float[Tensor, "b n"]) -> Float[Tensor, "b c h w"]:
        return coefficients.reshape(-1, *self.in_shape)

    def _Vt(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        return x.reshape(-1, math.prod(self.in_shape))

    def _U(self, coefficients: Float[Tensor, "b m"]) -> Float[Tensor, "b c h w"]:
        return self._V(coefficients)

    def _Ut(self, y: Float[Tensor, "b c h w"]) -> Float[Tensor, "b m"]:
        return self._Vt(y)
