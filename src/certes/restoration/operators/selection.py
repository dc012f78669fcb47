"""Coefficients that are measured, put before those that are not."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from certes.restoration.operators.constants import Placed


class Places:
    """Some of the N places of a plane, in their order; the same for every channel.

    Args:
        chosen: (N,).
    """

    def __init__(self, chosen: Bool[Tensor, " N"]) -> None:
        self._index = Placed(chosen.nonzero()[:, 0])
        self.count = int(chosen.sum())
        self.size = len(chosen)

    def take(self, plane: Shaped[Tensor, "*batch N"]) -> Shaped[Tensor, "*batch chosen"]:
        """The values at these places."""
        # Many times as fast as index_select along the last axis.
        return plane[..., self._index.beside(plane)]

    def put(
        self,
        values: Shaped[Tensor, "*batch chosen"],
        plane: Shaped[Tensor, "*batch N"] | None = None,
    ) -> Shaped[Tensor, "*batch N"]:
        """A copy of the plane (by default zeros) with these values at these places."""
        if plane is None:
            plane = values.new_zeros(*values.shape[:-1], self.size)
        return plane.index_copy(-1, self._index.beside(values), values)


class Selection:
    """The places of a plane in the layout of an operator's coefficients.

    Args:
        chosen: (N,), the places that belong to singular values.
    """

    def __init__(self, chosen: Bool[Tensor, " N"]) -> None:
        self.chosen, self.rest = Places(chosen), Places(~chosen)

    def packed(self, plane: Shaped[Tensor, "b c N"]) -> Shaped[Tensor, "b n"]:
        """The chosen places of all channels, then the rest of all channels."""
        return torch.cat([part.take(plane).flatten(1) for part in (self.chosen, self.rest)], dim=1)

    def unpacked(
        self, coefficients: Shaped[Tensor, "b n"], channels: int
    ) -> Shaped[Tensor, "b c N"]:
        """The plane that ``packed`` took apart."""
        places = (self.chosen, self.rest)
        sizes = [channels * part.count for part in places]
        chosen, rest = (
            values.reshape(len(values), channels, part.count)
            for part, values in zip(places, torch.split(coefficients, sizes, dim=1), strict=True)
        )
        return self.rest.put(rest, self.chosen.put(chosen))
