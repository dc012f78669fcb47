r"""The Walsh-Hadamard transform, for pictures of any size."""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.bases import Basis
from certes.restoration.operators.axes import matmul
from certes.restoration.operators.constants import Placed

_RADIX_BITS = 4  # one product with a small dense matrix does the work of so many butterflies


def walsh_hadamard(x: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
    r"""The orthonormal transform along the last axis, in natural (Hadamard) order.

    .. math:: \bar{x}_k = N^{-1/2} \sum_i (-1)^{\mathrm{popcount}(i \wedge k)} x_i,

    its own inverse and transpose; :math:`O(N \log N)`. The size N is a power of two.
    """
    size = x.shape[-1]
    bits = size.bit_length() - 1
    z = x.reshape(-1, size)
    while bits > 0:
        # The last digit of the index is transformed and becomes the first: after all are, the
        # order is the old one.
        digit = min(bits, _RADIX_BITS)
        matrix = _hadamard(digit, x.dtype, x.device)
        z = matmul(z.reshape(len(z), -1, 2**digit), matrix).mT.reshape(len(z), size)
        bits -= digit
    return z.reshape(x.shape)


class HadamardBasis(Basis):
    r"""A randomised Walsh-Hadamard basis of each channel, its pixels taken row by row.

    With N = H W a power of two, :math:`\bar{x} = W D x`: random signs, then the transform (the
    subsampled randomised Hadamard transform of compressed sensing; without signs the low
    sequencies of a picture would hold nearly all of it, and chance would decide about them). No
    other size is padded, which would cost the orthogonality: with P the largest power of two up to
    N, :math:`\bar{x} = W_2 D W_1 D x`, where :math:`W_1` transforms the first P values and
    :math:`W_2` the last P, which overlap. As a product of orthogonal maps that is orthogonal.

    Args:
        height: H.
        width: W.
        seed: of the signs.
    """

    def __init__(self, height: int, width: int, seed: int) -> None:
        size = height * width
        power = 2 ** (size.bit_length() - 1)
        self._blocks = sorted({(0, power), (size - power, size)})
        generator = torch.Generator().manual_seed(seed)
        signs = 2 * torch.randint(2, (size,), generator=generator, dtype=torch.int8) - 1
        self._signs = Placed(signs)

    def forward(self, x: Float[Tensor, "*batch c h w"]) -> Float[Tensor, "*batch c h w"]:
        """The coefficients, in an array of the picture's shape."""
        z, signs = x.flatten(-2), self._signs.beside(x)
        for first, last in self._blocks:
            z = _transformed(z * signs, first, last)
        return z.reshape(x.shape)

    def inverse(self, coefficients: Float[Tensor, "*batch c h w"]) -> Float[Tensor, "*batch c h w"]:
        """Undoes ``forward``."""
        z, signs = coefficients.flatten(-2), self._signs.beside(coefficients)
        for first, last in reversed(self._blocks):
            z = _transformed(z, first, last) * signs
        return z.reshape(coefficients.shape)


def _transformed(
    z: Float[Tensor, "*batch size"], first: int, last: int
) -> Float[Tensor, "*batch size"]:
    parts = (z[..., :first], walsh_hadamard(z[..., first:last]), z[..., last:])
    return torch.cat(parts, dim=-1)


@lru_cache(maxsize=16)
def _hadamard(bits: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "size size"]:
    """Sylvester's matrix, orthonormal."""
    # A table made under inference_mode could not take part in a later backward pass.
    with torch.inference_mode(False):
        matrix = torch.ones(1, 1, dtype=torch.float64)
        for _ in range(bits):
            rows = torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)
            matrix = torch.cat(rows)
        return (matrix * 2 ** (-bits / 2)).to(device, dtype)
