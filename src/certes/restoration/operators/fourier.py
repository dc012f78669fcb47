"""Single-coil magnetic resonance imaging: some Fourier coefficients were measured."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Complex, Float, Shaped
from torch import Tensor

from certes.restoration.operators.base import DecomposedOperator, checked_shape, padded
from certes.restoration.operators.masks import checked_mask
from certes.restoration.operators.selection import Places, Selection
from certes.restoration.operators.spectral import (
    fft,
    hartley,
    hartley_of_spectrum,
    negated,
    spectrum_of_hartley,
)


class SubsampledFourier(DecomposedOperator):
    r"""Chosen coefficients of the unitary 2-D Fourier transform of every (real) channel.

    A measurement is (C, K, 2): real and imaginary parts (:func:`torch.view_as_complex` reads it) of
    the K chosen frequencies, row by row of the mask. A real picture has
    :math:`\hat{x}_{-k} = \hat{x}_k^*`; so with the mask :math:`M_k \in \{0, 1\}` the two real
    degrees of freedom of a pair (k, -k) have the singular values

    .. math:: s_k = s_{-k} = \sqrt{(M_k + M_{-k}) / 2}:

    1 where both are measured (or k = -k), :math:`1 / \sqrt{2}` where one is. V is the Hartley
    transform. The columns of U beyond the rank are what no real picture causes: the antisymmetric
    part of pairs that were measured twice, and the imaginary part where k = -k.

    Args:
        shape: (C, H, W) of a picture.
        mask: (H, W), True or 1 where a frequency is measured, in the order of
            :func:`torch.fft.fft2`: frequency zero in the corner (``torch.fft.ifftshift`` brings
            the middle of a centred mask there). ``frequency_mask`` and ``cartesian_mask`` draw one.

    Raises:
        InputError: a mask of another size, with other values than 0 and 1, or without any 1.
    """

    name = "fourier"

    def __init__(self, shape: tuple[int, int, int], mask: Shaped[Tensor, "h w"]) -> None:
        channels, height, width = checked_shape(shape)
        self.mask: Bool[Tensor, "h w"] = checked_mask(mask, (1, height, width))[0]
        mirrored = negated(self.mask)
        twice, seen = (self.mask & mirrored).flatten(), (self.mask | mirrored).flatten()
        self._measured, self._twice = Places(self.mask.flatten()), Places(twice)
        self._selection = Selection(seen)
        self._rank = channels * self._selection.chosen.count
        s = ((1 + twice[seen].double()) / 2).sqrt().repeat(channels)
        out_shape = (channels, self._measured.count, 2)
        r = channels * min(2 * self._measured.count, height * width)
        super().__init__((channels, height, width), out_shape, padded(s, r))

    def _V(self, coefficients: Float[Tensor, "b n"]) -> Float[Tensor, "b c h w"]:
        plane = self._selection.unpacked(coefficients, self.in_shape[0])
        return hartley(plane.reshape(-1, *self.in_shape))

    def _Vt(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        return self._selection.packed(hartley(x).flatten(2))

    def _U(self, coefficients: Float[Tensor, "b m"]) -> Float[Tensor, "b c k 2"]:
        seen, unseen = torch.tensor_split(coefficients, [self._rank], dim=1)
        gains = self._singular_values.like(seen)[: self._rank]
        symmetric = self._spectrum(self._selection.chosen, seen / gains)
        return self._parts(symmetric + 1j * self._spectrum(self._twice, unseen))

    def _Ut(self, y: Float[Tensor, "b c k 2"]) -> Float[Tensor, "b m"]:
        z = self._filled(y)
        mirrored = negated(z).conj()
        symmetric = hartley_of_spectrum((z + mirrored) / 2).flatten(2)
        antisymmetric = hartley_of_spectrum((z - mirrored) / 2j).flatten(2)
        seen = self._selection.chosen.take(symmetric).flatten(1)
        gains = self._singular_values.like(seen)[: self._rank]
        return torch.cat([seen / gains, self._twice.take(antisymmetric).flatten(1)], dim=1)

    def _apply(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c k 2"]:
        return self._parts(fft.fft2(x, norm="ortho"))

    def _adjoint(self, y: Float[Tensor, "b c k 2"]) -> Float[Tensor, "b c h w"]:
        return fft.ifft2(self._filled(y), norm="ortho").real

    def _spectrum(
        self, places: Places, values: Float[Tensor, "b c_places"]
    ) -> Complex[Tensor, "b c h w"]:
        """That of the real picture with these Hartley coefficients, zeros elsewhere."""
        channels, height, width = self.in_shape
        plane = places.put(values.reshape(len(values), channels, places.count))
        return spectrum_of_hartley(plane.reshape(-1, channels, height, width))

    def _parts(self, z: Complex[Tensor, "b c h w"]) -> Float[Tensor, "b c k 2"]:
        """The measured places, as real and imaginary parts."""
        return torch.view_as_real(self._measured.take(z.flatten(2)))

    def _filled(self, y: Float[Tensor, "b c k 2"]) -> Complex[Tensor, "b c h w"]:
        """The spectrum with zeros where nothing was measured."""
        z = self._measured.put(torch.view_as_complex(y.contiguous()))
        return z.reshape(-1, *self.in_shape)

    def _parameters(self) -> dict[str, Any]:
        return {"known": round(float(self.mask.double().mean()), 6)}
