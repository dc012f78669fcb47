"""Convolutions that a fast transform makes diagonal: mirror and periodic boundaries."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from certes.diffusion.bases import CosineBasis
from certes.restoration.operators.base import DecomposedOperator
from certes.restoration.operators.constants import Constant, Placed

fft = cast(Any, torch.fft)  # torch publishes no types for its transforms


class CosineConvolution(DecomposedOperator):
    r"""Convolution by a kernel symmetric in both axes, each edge pixel repeated outwards (reflect).

    The DCT-II diagonalises it; its eigenvalues :math:`h_{kl}` may be negative, and a sign
    belongs to U: :math:`s = |h|`, :math:`U = V \operatorname{sign}(h)`.

    Args:
        shape: (C, H, W) of a picture.
        kernel: (odd, odd), equal to its two flips.
    """

    def __init__(self, shape: tuple[int, int, int], kernel: Float[Tensor, "a b"]) -> None:
        h = _cosines(shape[1], kernel.shape[0]) @ kernel @ _cosines(shape[2], kernel.shape[1]).T
        super().__init__(shape, shape, h.abs().expand(shape).flatten())
        self._sign = Placed(torch.where(h < 0, -1, 1).to(torch.int8))
        self._basis = CosineBasis()

    def _V(self, coefficients: Float[Tensor, "b n"]) -> Float[Tensor, "b c h w"]:
        return self._basis.inverse(coefficients.reshape(-1, *self.in_shape))

    def _Vt(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        return self._basis.forward(x).flatten(1)

    def _U(self, coefficients: Float[Tensor, "b m"]) -> Float[Tensor, "b c h w"]:
        signed = coefficients.reshape(-1, *self.in_shape) * self._sign.beside(coefficients)
        return self._basis.inverse(signed)

    def _Ut(self, y: Float[Tensor, "b c h w"]) -> Float[Tensor, "b m"]:
        return (self._basis.forward(y) * self._sign.beside(y)).flatten(1)


class Circulant(DecomposedOperator):
    r"""Multiplication by a transfer function :math:`\hat{h}` in the Fourier domain.

    The coefficients are those of the real, orthonormal, self-inverse Hartley transform,
    :math:`\bar{x}_k = \Re\hat{x}_k - \Im\hat{x}_k` with :math:`\hat{x}` the unitary DFT: n real
    numbers for n pixels at every size, odd or even. Multiplying :math:`\hat{x}_k` by
    :math:`\hat{h}_k = |\hat{h}_k| (p_k + i q_k)` is on the pair
    :math:`(\bar{x}_k, \bar{x}_{-k})` a rotation, :math:`p_k \bar{x}_k - q_k \bar{x}_{-k}`,
    times :math:`s_k = |\hat{h}_k|`. So V is the Hartley transform, and U the same after the
    rotations.

    Args:
        shape: (C, H, W) of a picture.
        transfer: (H, W), of a real convolution: :math:`\hat{h}_{-k} = \hat{h}_k^*`.
    """

    def __init__(self, shape: tuple[int, int, int], transfer: Complex[Tensor, "h w"]) -> None:
        # U is orthogonal only if both halves of a pair agree on the phase, which is mere rounding
        # where h is zero, and not every FFT rounds the two alike.
        h = hermitian(transfer)
        s = h.abs()
        super().__init__(shape, shape, s.expand(shape).flatten())
        phase = torch.where(s > 0, h / s, 1.0)
        self._p, self._q = Constant(phase.real), Constant(phase.imag)

    def _V(self, coefficients: Float[Tensor, "b n"]) -> Float[Tensor, "b c h w"]:
        return hartley(coefficients.reshape(-1, *self.in_shape))

    def _Vt(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        return hartley(x).flatten(1)

    def _U(self, coefficients: Float[Tensor, "b m"]) -> Float[Tensor, "b c h w"]:
        c = coefficients.reshape(-1, *self.in_shape)
        return hartley(self._p.like(c) * c - self._q.like(c) * negated(c))

    def _Ut(self, y: Float[Tensor, "b c h w"]) -> Float[Tensor, "b m"]:
        c = hartley(y)
        return (self._p.like(c) * c + self._q.like(c) * negated(c)).flatten(1)


class CircularConvolution(Circulant):
    """Convolution by any kernel on the torus.

    Args:
        shape: (C, H, W) of a picture.
        kernel: (a, b), tap (a // 2, b // 2) weighs the pixel itself.
    """

    def __init__(self, shape: tuple[int, int, int], kernel: Float[Tensor, "a b"]) -> None:
        super().__init__(shape, fft.fft2(impulse_response(kernel, *shape[1:])))


def _cosines(size: int, taps: int) -> Float[Tensor, "size taps"]:
    k = torch.arange(size, dtype=torch.float64)
    return torch.cos(math.pi / size * torch.outer(k, torch.arange(taps) - taps // 2))


def hartley(x: Float[Tensor, "*batch h w"]) -> Float[Tensor, "*batch h w"]:
    """The Hartley transform of every channel, its own inverse."""
    return hartley_of_spectrum(fft.fft2(x, norm="ortho"))


def hartley_of_spectrum(z: Complex[Tensor, "*batch h w"]) -> Float[Tensor, "*batch h w"]:
    """The Hartley coefficients of the real picture with this unitary DFT."""
    return z.real - z.imag


def spectrum_of_hartley(c: Float[Tensor, "*batch h w"]) -> Complex[Tensor, "*batch h w"]:
    """Undoes ``hartley_of_spectrum``."""
    mirrored = negated(c)
    return torch.complex(mirrored + c, mirrored - c) / 2


def hermitian(z: Complex[Tensor, "h w"]) -> Complex[Tensor, "h w"]:
    """The nearest spectrum of a real picture."""
    return (z + negated(z).conj()) / 2


def negated(z: Tensor) -> Tensor:
    """Entry ``-k`` (modulo the size, both axes) in place of entry ``k``."""
    return z.flip(-2, -1).roll((1, 1), (-2, -1))


def impulse_response(kernel: Float[Tensor, "a b"], height: int, width: int) -> Float[Tensor, "h w"]:
    """The kernel on the torus, its anchor at pixel (0, 0); a long one wraps around."""
    rows = (torch.arange(kernel.shape[0]) - kernel.shape[0] // 2) % height
    columns = (torch.arange(kernel.shape[1]) - kernel.shape[1] // 2) % width
    response = torch.zeros(height, width, dtype=torch.float64)
    return response.index_put_((rows[:, None], columns), kernel, accumulate=True)
