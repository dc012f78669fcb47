"""Convolution where the whole kernel lies inside the picture, by the fast Fourier transform."""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.nn.functional import pad

from certes.restoration.operators.constants import Constant
from certes.restoration.operators.spectral import fft


class ValidConvolution:
    r"""Convolution of every channel by one kernel, cut to the pixels that need no boundary.

    .. math:: y_{ij} = \sum_{ab} k_{ab} x_{i + \alpha - 1 - a, j + \beta - 1 - b}

    for a kernel of :math:`\alpha` rows and :math:`\beta` columns. The transform is periodic over
    the picture; what comes round its edges reaches none of the pixels that are kept.

    Args:
        kernel: (a, b), no larger than the picture.
        height: H of the picture.
        width: W of the picture.
    """

    def __init__(self, kernel: Float[Tensor, "a b"], height: int, width: int) -> None:
        self._size = (height, width)
        self._lost = (kernel.shape[0] - 1, kernel.shape[1] - 1)
        self._transfer = Constant(torch.view_as_real(fft.rfft2(kernel.double(), s=self._size)))

    def apply(self, x: Float[Tensor, "*batch h w"]) -> Float[Tensor, "*batch h2 w2"]:
        """The convolution; H - a + 1 rows and W - b + 1 columns of it are left."""
        top, left = self._lost
        return self._filtered(x, self._like(x))[..., top:, left:]

    def adjoint(self, y: Float[Tensor, "*batch h2 w2"]) -> Float[Tensor, "*batch h w"]:
        """Each value back to where it came from."""
        top, left = self._lost
        return self._filtered(pad(y, (left, 0, top, 0)), self._like(y).conj())

    def _like(self, x: Tensor) -> Complex[Tensor, "h half"]:
        return torch.view_as_complex(self._transfer.like(x))

    def _filtered(
        self, x: Float[Tensor, "*batch h w"], transfer: Complex[Tensor, "h half"]
    ) -> Float[Tensor, "*batch h w"]:
        return fft.irfft2(fft.rfft2(x) * transfer, s=self._size)
