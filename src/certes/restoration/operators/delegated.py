"""Operators that are another one under a name and with arguments of their own."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from certes.restoration.operators.base import DecomposedOperator


class Delegated(DecomposedOperator):
    """Every map of the operator within.

    Args:
        inner: computes; chosen by the arguments of the operator around it.
    """

    def __init__(self, inner: DecomposedOperator) -> None:
        super().__init__(inner.in_shape, inner.out_shape, inner.singular_values)
        self._inner = inner

    def _V(self, coefficients: Float[Tensor, "b n"]) -> Float[Tensor, "b c h w"]:
        return self._inner._V(coefficients)

    def _Vt(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        return self._inner._Vt(x)

    def _U(self, coefficients: Float[Tensor, "b m"]) -> Float[Tensor, "b ..."]:
        return self._inner._U(coefficients)

    def _Ut(self, y: Float[Tensor, "b ..."]) -> Float[Tensor, "b m"]:
        return self._inner._Ut(y)

    def _apply(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b ..."]:
        return self._inner._apply(x)

    def _adjoint(self, y: Float[Tensor, "b ..."]) -> Float[Tensor, "b c h w"]:
        return self._inner._adjoint(y)
