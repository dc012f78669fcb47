"""Parallel magnetic resonance imaging: several coils, each with a sensitivity of its own."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Complex, Float, Shaped
from torch import Tensor

from certes.errors import InputError
from certes.restoration.operators.base import LinearOperator, checked_shape
from certes.restoration.operators.constants import Constant
from certes.restoration.operators.masks import checked_mask
from certes.restoration.operators.selection import Places
from certes.restoration.operators.spectral import fft


class MultiCoilMRI(LinearOperator):
    r"""Chosen Fourier coefficients of a picture as every coil sees it (SENSE).

    .. math:: y_j = M F (s_j x), \qquad H^T y = \Re \sum_j \bar{s}_j F^{-1} M^T y_j,

    with the unitary 2-D transform F and the sensitivities as they are given: where
    :math:`\sum_j |s_j|^2 = 1` (as most estimates of sensitivities are scaled) no singular value
    exceeds 1, and ``noise`` is the standard deviation of each real and each imaginary part
    (Pruessmann et al., "SENSE: Sensitivity encoding for fast MRI", Magn. Reson. Med. 42, 1999).

    A picture is real; a phase that it has belongs into the sensitivities. A measurement is
    (coils, K, 2): real and imaginary parts (:func:`torch.view_as_complex` reads it) of the K
    chosen frequencies, row by row of the mask.

    Args:
        shape: (1, H, W) of a picture.
        mask: (H, W), True or 1 where a frequency is measured, in the order of
            :func:`torch.fft.fft2`: frequency zero in the corner, as in :class:`SubsampledFourier`.
        sensitivities: (coils, H, W), complex.

    Raises:
        InputError: a picture of several channels, a mask of another size, with other values than 0
            and 1, or without any 1, or sensitivities of another size, all zero, or not finite.
    """

    name = "multi-coil-mri"

    def __init__(
        self,
        shape: tuple[int, int, int],
        mask: Shaped[Tensor, "h w"],
        sensitivities: Complex[Tensor, "coils h w"],
    ) -> None:
        channels, height, width = shape = checked_shape(shape)
        if channels != 1:
            raise InputError(f"shape is {shape}; wanted one channel, (1, height, width)")
        self.mask: Bool[Tensor, "h w"] = checked_mask(mask, (1, height, width))[0]
        sensitivities = _checked_sensitivities(sensitivities, height, width)
        self._measured = Places(self.mask.flatten())
        self._sensitivities = Constant(torch.view_as_real(sensitivities))
        super().__init__(shape, (len(sensitivities), self._measured.count, 2))

    def _apply(self, x: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b coils k 2"]:
        seen = fft.fft2(self._coils(x) * x, norm="ortho")
        return torch.view_as_real(self._measured.take(seen.flatten(2)))

    def _adjoint(self, y: Float[Tensor, "b coils k 2"]) -> Float[Tensor, "b 1 h w"]:
        z = self._measured.put(torch.view_as_complex(y.contiguous()))
        seen = fft.ifft2(z.reshape(len(y), -1, *self.in_shape[1:]), norm="ortho")
        return (self._coils(y).conj() * seen).sum(1, keepdim=True).real

    def _coils(self, like: Tensor) -> Complex[Tensor, "coils h w"]:
        return torch.view_as_complex(self._sensitivities.like(like))

    def _parameters(self) -> dict[str, Any]:
        known = round(float(self.mask.double().mean()), 6)
        return {"known": known, "coils": self.out_shape[0]}


def _checked_sensitivities(
    sensitivities: Tensor, height: int, width: int
) -> Complex[Tensor, "coils h w"]:
    shape = tuple(sensitivities.shape)
    if len(shape) != 3 or shape[0] == 0 or shape[1:] != (height, width):
        raise InputError(
            f"sensitivities have shape {shape}; wanted (coils, {height}, {width}), complex numbers"
        )
    sensitivities = sensitivities.detach().to("cpu", torch.complex128)
    if not bool(sensitivities.isfinite().all()) or not bool(sensitivities.any()):
        raise InputError("sensitivities are all zero or not finite; wanted finite numbers")
    return sensitivities
