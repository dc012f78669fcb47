"""Blur, then a coarser grid: a composition whose singular values are still known."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from certes.restoration.operators.base import DecomposedOperator, checked_shape
from certes.restoration.operators.blur import Kernel, numbers_of, plane_of
from certes.restoration.operators.constants import Constant
from certes.restoration.operators.selection import Selection
from certes.restoration.operators.spectral import Circulant, fft, hermitian, impulse_response
from certes.restoration.operators.super_resolution import check_factor


class Downsample(DecomposedOperator):
    r"""Circular convolution by any kernel, then one pixel of every ``factor`` x ``factor`` block.

    The pixel that stays is ((factor - 1) // 2, (factor - 1) // 2) of its block. With f the factor,
    a coarse frequency q is one number seen of its :math:`f^2` aliases
    :math:`k = q` (mod H / f, W / f) (Zhao et al., "Fast single image super-resolution using a new
    analytical solution for l2-l2 problems", IEEE Trans. Image Process. 25, 2016):

    .. math:: \hat{y}_q = \frac{1}{f} \sum_k \hat{h}_k \hat{x}_k = s_q \langle v_q, \hat{x} \rangle,
        \qquad s_q^2 = \frac{1}{f^2} \sum_k |\hat{h}_k|^2.

    A Householder reflection among the aliases of every q, which turns real pictures into real
    ones, brings :math:`v_q`, up to a phase that is left to U, to :math:`e_q`, all aliases alike;
    and that is what pixel (0, 0) of every block sees. So :math:`V^T x` is the reflected picture:
    its pixels (0, 0) in the Hartley basis of the coarse grid, then all its other pixels.

    Args:
        shape: (C, H, W) of a fine picture.
        kernel: as that of :class:`Blur`: (taps,) for both axes, a pair, or any plane (a, b).
        factor: how many times finer than the measurement; divides H and W.

    Raises:
        InputError: a kernel that is not finite and not zero throughout, or a factor that does not
            divide both sides.
    """

    name = "downsample"

    def __init__(self, shape: tuple[int, int, int], kernel: Kernel, factor: int) -> None:
        channels, height, width = shape = checked_shape(shape)
        check_factor(factor, height, width)
        self.kernel, self.factor = kernel, int(factor)
        back = -((factor - 1) // 2)
        response = impulse_response(plane_of(kernel), height, width).roll((back, back), (0, 1))
        transfer, mirror = _decomposed(_aliases(hermitian(fft.fft2(response)), factor), factor)
        self._mirror = Constant(torch.view_as_real(mirror))
        self._coarse: DecomposedOperator = Circulant(
            (channels, height // factor, width // factor), transfer
        )
        first = torch.zeros(height, width, dtype=torch.bool)
        first[::factor, ::factor] = True
        self._selection = Selection(first.flatten())
        super().__init__(shape, self._coarse.in_shape, self._coarse.singular_values)

    def _V(self, coefficients: Float[Tensor, "b n"]) -> Float[Tensor, "b c h w"]:
        seen, unseen = torch.tensor_split(coefficients, [self.m], dim=1)
        first = self._coarse._V(seen).flatten(1)
        plane = self._selection.unpacked(torch.cat([first, unseen], dim=1), self.in_shape[0])
        return self._reflected(plane.reshape(-1, *self.in_shape))

    def _Vt(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        packed = self._selection.packed(self._reflected(x).flatten(2))
        first, others = torch.tensor_split(packed, [self.m], dim=1)
        return torch.cat([self._coarse._Vt(first.reshape(-1, *self.out_shape)), others], dim=1)

    def _U(self, coefficients: Float[Tensor, "b m"]) -> Float[Tensor, "b c h2 w2"]:
        return self._coarse._U(coefficients)

    def _Ut(self, y: Float[Tensor, "b c h2 w2"]) -> Float[Tensor, "b m"]:
        return self._coarse._Ut(y)

    def _reflected(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The reflection, its own inverse and transpose."""
        mirror = torch.view_as_complex(self._mirror.like(x))
        z = _aliases(fft.fft2(x), self.factor)
        z = z - mirror * (mirror.conj() * z).sum((-4, -2), keepdim=True)
        return fft.ifft2(z.flatten(-2).flatten(-3, -2)).real

    def _parameters(self) -> dict[str, Any]:
        return {"factor": self.factor, "kernel": numbers_of(self.kernel)}


def _aliases(z: Complex[Tensor, "*batch h w"], factor: int) -> Complex[Tensor, "*batch f h2 f w2"]:
    """Frequencies that fall on the same one of the coarse grid: the two axes of length f."""
    *batch, height, width = z.shape
    return z.reshape(*batch, factor, height // factor, factor, width // factor)


def _decomposed(
    h: Complex[Tensor, "f h2 f w2"], factor: int
) -> tuple[Complex[Tensor, "h2 w2"], Complex[Tensor, "f h2 f w2"]]:
    r"""The transfer function s_q theta_q on the coarse grid, and :math:`u` of :math:`I - u u^*`.

    The phase theta_q makes the inner product of e_q and theta_q v_q real, as a reflection between
    the two needs, and negative, which keeps their difference away from zero.
    """
    s = h.abs().square().sum((0, 2), keepdim=True).sqrt() / factor
    e = 1 / factor
    v = torch.where(s > 0, h.conj() / (factor * s), e)
    inner = hermitian(e * v.sum((0, 2)))[:, None, :]
    size = inner.abs()
    theta = torch.where(size > 0, -inner.conj() / size, -1.0)
    mirror = (e - theta * v) / (1 + size).sqrt()
    return (s * theta)[0, :, 0], mirror
