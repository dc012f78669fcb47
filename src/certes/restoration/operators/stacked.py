"""One picture, measured in several ways at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from certes.errors import InputError
from certes.restoration.operators.base import LinearOperator


class Stacked(LinearOperator):
    r"""Several linear operators on the same picture, their measurements one after another.

    .. math:: y = (H_1 x, H_2 x, \dots)

    A measurement is flat, (m,): :meth:`join` makes it from those of the operators, :meth:`split`
    takes it apart. Where they were measured with different noise, :func:`certes.restore` takes
    ``noise`` for every value of ``y``, joined alike.

    Args:
        operators: all for pictures of one shape.

    Raises:
        InputError: no operator, one that is not linear, or operators for pictures of different
            shapes.
    """

    name = "stacked"

    def __init__(self, operators: Sequence[LinearOperator]) -> None:
        self.operators = tuple(operators)
        _check(self.operators)
        super().__init__(self.operators[0].in_shape, (sum(H.m for H in self.operators),))

    def join(self, parts: Sequence[Float[Tensor, "b ..."]]) -> Float[Tensor, "b m"]:
        """The measurement from those of the operators, each in its own shape.

        Raises:
            InputError: parts of other shapes, or another number of them.
        """
        if len(parts) != len(self.operators):
            raise InputError(
                f"parts: {len(parts)} measurements for {len(self.operators)} operators; wanted one "
                f"for each"
            )
        return _flat([H.observed(part) for H, part in zip(self.operators, parts, strict=True)])

    def split(self, y: Float[Tensor, "b m"]) -> list[Float[Tensor, "b ..."]]:
        """What ``join`` joined.

        Raises:
            InputError: a measurement of another shape.
        """
        return self._apart(self._checked("y", y, self.out_shape))

    def observed(self, y: Float[Tensor, "b m"]) -> Float[Tensor, "b m"]:
        """``y`` with zeros wherever its operator measures nothing."""
        return self.join(self.split(y))

    def _apply(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b m"]:
        return _flat([H._apply(x) for H in self.operators])

    def _adjoint(self, y: Float[Tensor, "b m"]) -> Float[Tensor, "b c h w"]:
        pairs = zip(self.operators, self._apart(y), strict=True)
        return torch.stack([H._adjoint(part) for H, part in pairs]).sum(0)

    def _apart(self, y: Float[Tensor, "b m"]) -> list[Float[Tensor, "b ..."]]:
        parts = torch.split(y, [H.m for H in self.operators], dim=1)
        return [p.reshape(-1, *H.out_shape) for H, p in zip(self.operators, parts, strict=True)]

    def _parameters(self) -> dict[str, Any]:
        return {"operators": [H.describe() for H in self.operators]}


def _flat(parts: Sequence[Float[Tensor, "b ..."]]) -> Float[Tensor, "b m"]:
    return torch.cat([part.flatten(1) for part in parts], dim=1)


def _check(operators: Sequence[LinearOperator]) -> None:
    if not operators:
        raise InputError("operators is empty; wanted one at least")
    for H in operators:
        # Not every caller is checked for types, and JPEG is an operator too.
        if not isinstance(H, LinearOperator):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError(f"operators: {H!r} is no linear operator; wanted linear ones only")
    shapes = {H.in_shape for H in operators}
    if len(shapes) > 1:
        raise InputError(
            f"operators are for pictures of shapes {', '.join(map(str, sorted(shapes)))}; wanted "
            f"one shape"
        )
