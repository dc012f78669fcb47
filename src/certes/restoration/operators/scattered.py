r"""Scattered, irregular pixels: a linear operator that reads a picture anywhere.

A picture of H x W pixels stands for the cosine series through its pixels,

.. math:: f(r, c) = \sum_{kl} a_k b_l\, \bar x_{kl} \cos\frac{\pi k r}{H} \cos\frac{\pi l c}{W},

whose value at a pixel's centre, :math:`r = i + 1/2`, is that pixel. It is read at any position by a
transform between unequal grids (Dutt & Rokhlin 1993; kernel of Fourmont 2003): the coefficients are
divided by the symbol of a short kernel and transformed to a lattice of twice the density, of which
the kernel reads a few nodes around each position. That costs a transform and some multiplications
for each position, whatever their number, and is the series to :data:`ACCURACY`.

Restoration from scattered pixels is then ``certes.restore(y, SampledAt(shape, positions), model)``.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from certes.diffusion.bases import CosineBasis
from certes.errors import InputError
from certes.restoration.operators.base import LinearOperator, checked_shape
from certes.restoration.operators.constants import Constant, Placed

ACCURACY = 1e-5
"""Of a value read, relative to the picture's own."""

_BASIS = CosineBasis()
# Nodes of the dense lattice that the kernel touches, and its shape, for twice the density.
_TAPS = 6
_BETA = 2.34 * _TAPS
_DENSER = 2


class SampledAt(LinearOperator):
    """Values of pictures at positions anywhere; the same for every channel and picture.

    A measurement is (C, M).

    Args:
        shape: (C, H, W) of a picture.
        positions: (M, 2), row and column from the picture's corner, in its pixels: pixel (i, j) has
            its centre at (i + 1/2, j + 1/2). For physical positions, divide by the pitch.

    Raises:
        InputError: for positions outside of the picture, or none.
    """

    name = "scattered"

    def __init__(self, shape: tuple[int, int, int], positions: Float[Tensor, "m 2"]) -> None:
        channels, height, width = checked_shape(shape)
        self.positions = _checked(positions, (height, width))
        super().__init__((channels, height, width), (channels, len(positions)))
        self._dense = (_DENSER * height, _DENSER * width)
        rows = _nodes(self.positions[:, 0], self._dense[0])
        columns = _nodes(self.positions[:, 1], self._dense[1])
        places = rows[0][:, :, None] * self._dense[1] + columns[0][:, None, :]
        weights = rows[1][:, :, None] * columns[1][:, None, :]
        self._places, self._weights = Placed(places.flatten()), Constant(weights.flatten())
        symbol = _symbol(height)[:, None] * _symbol(width)[None, :]
        self._gains = Constant(_DENSER / symbol)

    def _apply(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c m"]:
        h, w = self.in_shape[1:]
        dense = x.new_zeros(*x.shape[:2], *self._dense)
        dense[..., :h, :w] = _BASIS.forward(x) * self._gains.like(x)
        read = _BASIS.inverse(dense).flatten(2)[..., self._places.beside(x)]
        near = read * self._weights.like(x)
        return near.reshape(*x.shape[:2], len(self.positions), -1).sum(3)

    def _adjoint(self, y: Float[Tensor, "b c m"]) -> Float[Tensor, "b c h w"]:
        h, w = self.in_shape[1:]
        written = y.repeat_interleave(_TAPS**2, dim=2) * self._weights.like(y)
        dense: Tensor = y.new_zeros(*y.shape[:2], math.prod(self._dense))
        dense.index_add_(2, self._places.beside(y), written)
        return _BASIS.inverse(
            _BASIS.forward(dense.reshape(*y.shape[:2], *self._dense))[..., :h, :w]
            * self._gains.like(y)
        )

    def _parameters(self) -> dict[str, Any]:
        known = len(self.positions) / math.prod(self.in_shape[1:])
        return {"known": round(known, 6)}


def _checked(positions: Float[Tensor, "m 2"], sides: tuple[int, int]) -> Float[Tensor, "m 2"]:
    if positions.ndim != 2 or positions.shape[1] != 2 or not len(positions):
        raise InputError(
            f"positions: shape {tuple(positions.shape)}; give (M, 2), rows and columns"
        )
    positions = positions.detach().cpu().double()
    if not bool(((positions >= 0) & (positions <= torch.tensor(sides))).all()):
        raise InputError(
            f"positions: some lie outside of the picture, {sides[0]} by {sides[1]} pixels; give "
            "rows and columns from its corner, in pixels"
        )
    return positions


def _nodes(
    positions: Float[Tensor, " m"], size: int
) -> tuple[Int64[Tensor, "m taps"], Float[Tensor, "m taps"]]:
    """Nodes of the dense lattice around positions along one axis, and the kernel there."""
    place = positions * _DENSER - 0.5
    nodes = place.ceil().long()[:, None] + torch.arange(-_TAPS // 2, _TAPS // 2)
    weights = _kernel(place[:, None] - nodes)
    # Beyond the border lies the mirror picture.
    around = nodes % (2 * size)
    return torch.minimum(around, 2 * size - 1 - around), weights


def _kernel(offset: Float[Tensor, " *n"]) -> Float[Tensor, " *n"]:
    """Kaiser and Bessel's, at offsets in nodes, not normalised."""
    inside = (1 - (2 * offset / _TAPS) ** 2).clamp(min=0)
    return cast(Any, torch.special).i0(_BETA * inside.sqrt())


def _symbol(size: int) -> Float[Tensor, " k"]:
    """The kernel's Fourier transform at the frequencies of an axis' cosines, float64."""
    angles = torch.arange(size, dtype=torch.float64) * (math.pi / (_DENSER * size))
    root = (_BETA**2 - (angles * _TAPS / 2) ** 2).sqrt()
    return _TAPS * root.sinh() / root
