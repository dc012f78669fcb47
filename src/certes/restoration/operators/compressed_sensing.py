"""Compressed sensing: fewer measurements than pixels, each a sum over the whole picture."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from certes.diffusion.bases import Basis, CosineBasis
from certes.errors import InputError
from certes.restoration.operators.base import DecomposedOperator, checked_shape
from certes.restoration.operators.delegated import Delegated
from certes.restoration.operators.fourier import SubsampledFourier
from certes.restoration.operators.frequencies import (
    cosine_distance,
    fourier_distance,
    frequency_mask,
)
from certes.restoration.operators.hadamard import HadamardBasis
from certes.restoration.operators.selection import Selection

Transform = Literal["hadamard", "dct", "fourier"]


class SubsampledBasis(DecomposedOperator):
    """Chosen coefficients of every channel in an orthonormal basis: s = 1, U = I.

    A measurement is (C, K), row by row of the mask.

    Args:
        shape: (C, H, W) of a picture.
        basis: gives the coefficients.
        mask: (H, W), where they are measured.
    """

    name = "compressed-sensing"

    def __init__(
        self, shape: tuple[int, int, int], basis: Basis, mask: Bool[Tensor, "h w"]
    ) -> None:
        self._basis, self._selection = basis, Selection(mask.flatten())
        out_shape = (shape[0], self._selection.chosen.count)
        super().__init__(shape, out_shape, torch.ones(out_shape, dtype=torch.float64).flatten())

    def _V(self, coefficients: Float[Tensor, "b n"]) -> Float[Tensor, "b c h w"]:
        plane = self._selection.unpacked(coefficients, self.in_shape[0])
        return self._basis.inverse(plane.reshape(-1, *self.in_shape))

    def _Vt(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        return self._selection.packed(self._basis.forward(x).flatten(2))

    def _U(self, coefficients: Float[Tensor, "b m"]) -> Float[Tensor, "b c k"]:
        return coefficients.reshape(-1, *self.out_shape)

    def _Ut(self, y: Float[Tensor, "b c k"]) -> Float[Tensor, "b m"]:
        return y.flatten(1)

    def _apply(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c k"]:
        return self._selection.chosen.take(self._basis.forward(x).flatten(2))

    def _adjoint(self, y: Float[Tensor, "b c k"]) -> Float[Tensor, "b c h w"]:
        return self._basis.inverse(self._selection.chosen.put(y).reshape(-1, *self.in_shape))


class CompressedSensing(Delegated):
    """A random share of the coefficients of every channel in an orthonormal basis.

    ``hadamard`` (the single-pixel camera): the Walsh-Hadamard transform of the picture with random
    signs, at any size (:class:`~certes.restoration.operators.hadamard.HadamardBasis`). ``dct``: the
    2-D discrete cosine transform. Both measure (C, K) numbers with singular values 1. ``fourier``
    (magnetic resonance imaging with one coil): the 2-D Fourier transform, (C, K, 2) real and
    imaginary parts, singular values 1 and 0.71 (:class:`SubsampledFourier`, which takes masks of
    your own).

    Args:
        shape: (C, H, W) of a picture.
        ratio: K / (H W), the share of coefficients that are measured, in (0, 1]; the same ones in
            every channel and every picture of a batch.
        basis: ``hadamard``, ``dct`` or ``fourier``.
        seed: of signs and choice; the same seed gives the same operator.
        centre: with ``dct`` and ``fourier``, share of all coefficients, those of lowest frequency,
            that are always measured; the others are drawn evenly.

    Raises:
        InputError: an unknown basis, or shares that are none or measure nothing.
    """

    name = "compressed-sensing"

    def __init__(
        self,
        shape: tuple[int, int, int],
        ratio: float,
        basis: Transform = "hadamard",
        seed: int = 0,
        centre: float = 0.0,
    ) -> None:
        shape = checked_shape(shape)
        if basis not in get_args(Transform):
            raise InputError(f"basis is {basis!r}; wanted 'hadamard', 'dct' or 'fourier'")
        if basis == "hadamard" and centre:
            raise InputError(
                f"centre: {centre}; a Hadamard basis with random signs has no low frequencies: "
                f"leave it out, or give basis 'dct' or 'fourier'"
            )
        self.ratio, self.basis, self.seed, self.centre = ratio, basis, seed, centre
        distance = fourier_distance if basis == "fourier" else cosine_distance
        mask = frequency_mask(distance(*shape[1:]), ratio, centre, seed)
        if basis == "fourier":
            super().__init__(SubsampledFourier(shape, mask))
        else:
            # The signs have a stream apart from that of the choice.
            signed = HadamardBasis(*shape[1:], seed=seed + 1)
            super().__init__(
                SubsampledBasis(shape, signed if basis == "hadamard" else CosineBasis(), mask)
            )

    def _parameters(self) -> dict[str, Any]:
        return {"ratio": self.ratio, "basis": self.basis, "centre": self.centre}
