"""Channels that were measured in different ways."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from certes.errors import InputError
from certes.restoration.operators.base import DecomposedOperator, padded


class PerChannel(DecomposedOperator):
    """One operator for each channel (or group of channels): H is block diagonal.

    Such as lateral colour, where each channel has a blur of its own. Coefficients and singular
    values run over the operators, those of singular values first.

    Args:
        operators: the first takes the first channels of a picture, and so on. Their measurements
            are stacked along the first axis.

    Raises:
        InputError: no operator, or operators for pictures of different sizes or with measurements
            that differ in more than the first axis.
    """

    name = "per-channel"

    def __init__(self, operators: Sequence[DecomposedOperator]) -> None:
        self.operators = tuple(operators)
        if not self.operators:
            raise InputError("operators is empty; wanted one for each channel")
        channels, *sides = _stacked("pictures", [H.in_shape for H in self.operators])
        out_shape = _stacked("measurements", [H.out_shape for H in self.operators])
        self._ranks = [len(H.singular_values) for H in self.operators]
        s = torch.cat([H.singular_values for H in self.operators])
        # Where some operators have more measurements than pixels and others fewer, V and U both
        # have columns left over.
        n, m = (sum(sizes) for sizes in zip(*((H.n, H.m) for H in self.operators), strict=True))
        super().__init__((channels, sides[0], sides[1]), out_shape, padded(s, min(n, m)))

    def _V(self, coefficients: Float[Tensor, "b n"]) -> Float[Tensor, "b c h w"]:
        parts = self._apart(coefficients, [H.n for H in self.operators])
        return self._each(lambda H, part: H._V(part), parts)

    def _Vt(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        parts = torch.split(x, [H.in_shape[0] for H in self.operators], dim=1)
        return self._together([H._Vt(p) for H, p in zip(self.operators, parts, strict=True)])

    def _U(self, coefficients: Float[Tensor, "b m"]) -> Float[Tensor, "b ..."]:
        parts = self._apart(coefficients, [H.m for H in self.operators])
        return self._each(lambda H, part: H._U(part), parts)

    def _Ut(self, y: Float[Tensor, "b ..."]) -> Float[Tensor, "b m"]:
        parts = torch.split(y, [H.out_shape[0] for H in self.operators], dim=1)
        return self._together([H._Ut(p) for H, p in zip(self.operators, parts, strict=True)])

    def _apply(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b ..."]:
        parts = torch.split(x, [H.in_shape[0] for H in self.operators], dim=1)
        return self._each(lambda H, part: H._apply(part), parts)

    def _adjoint(self, y: Float[Tensor, "b ..."]) -> Float[Tensor, "b c h w"]:
        parts = torch.split(y, [H.out_shape[0] for H in self.operators], dim=1)
        return self._each(lambda H, part: H._adjoint(part), parts)

    def observed(self, y: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """``y`` with zeros wherever its operator measures nothing."""
        y = self._checked("y", y, self.out_shape)
        parts = torch.split(y, [H.out_shape[0] for H in self.operators], dim=1)
        return self._each(lambda H, part: H.observed(part), parts)

    def _each(
        self, step: Callable[[DecomposedOperator, Tensor], Tensor], parts: Sequence[Tensor]
    ) -> Float[Tensor, "b ..."]:
        return torch.cat([step(H, p) for H, p in zip(self.operators, parts, strict=True)], dim=1)

    def _together(self, parts: Sequence[Float[Tensor, "b part"]]) -> Float[Tensor, "b all"]:
        """What belongs to singular values, then the rest of the null spaces."""
        ends = zip(parts, self._ranks, strict=True)
        pairs = [torch.tensor_split(part, [rank], dim=1) for part, rank in ends]
        return torch.cat([*(seen for seen, _ in pairs), *(unseen for _, unseen in pairs)], dim=1)

    def _apart(
        self, coefficients: Float[Tensor, "b all"], sizes: Sequence[int]
    ) -> list[Float[Tensor, "b part"]]:
        """What ``_together`` joined."""
        rests = [size - rank for size, rank in zip(sizes, self._ranks, strict=True)]
        pieces = torch.split(coefficients, [*self._ranks, *rests], dim=1)
        count = len(self.operators)
        return [torch.cat([pieces[i], pieces[count + i]], dim=1) for i in range(count)]

    def _parameters(self) -> dict[str, Any]:
        return {"operators": [H.describe() for H in self.operators]}


def _stacked(what: str, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    if len({shape[1:] for shape in shapes}) > 1:
        raise InputError(
            f"operators have {what} of shapes {', '.join(map(str, shapes))}; wanted shapes that "
            f"differ in the first axis only"
        )
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])
