"""Super-resolution: the picture was measured on a coarser grid."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from certes.errors import InputError
from certes.restoration.operators.axes import Axis, BlockMeanAxis, DenseAxis, stencil_matrix
from certes.restoration.operators.base import checked_shape
from certes.restoration.operators.separable import Separable

Downsampling = Literal["box", "bicubic"]


class SuperResolution(Separable):
    """Every ``factor``-th pixel of the picture, low-pass filtered.

    ``box`` is the mean of blocks (singular values 1 / factor). ``bicubic`` is the Keys kernel with
    a = -1/2 (IEEE Trans. ASSP 29, 1981), stretched by ``factor`` against aliasing (4 * factor
    taps), each edge pixel repeated outwards (reflect); the pixel grids share their corners, as
    in Pillow.

    Args:
        shape: (C, H, W) of a fine picture.
        factor: how many times finer than the measurement; divides H and W.
        kernel: ``box`` or ``bicubic``.

    Raises:
        InputError: an unknown kernel, or a factor that does not divide both sides.
    """

    name = "super-resolve"

    def __init__(
        self, shape: tuple[int, int, int], factor: int, kernel: Downsampling = "box"
    ) -> None:
        shape = checked_shape(shape)
        _check_factor(factor, *shape[1:])
        if kernel not in get_args(Downsampling):
            raise InputError(f"kernel is {kernel!r}; wanted 'box' or 'bicubic'")
        self.factor, self.kernel = int(factor), kernel
        axis = BlockMeanAxis if kernel == "box" else _bicubic_axis
        super().__init__(shape, axis(shape[1], factor), axis(shape[2], factor))

    def rows(self, coefficients: Float[Tensor, "b r"]) -> Float[Tensor, "b c h w"]:
        """``H^T U S^-1``: the singular values of these kernels are all far from zero."""
        return self._adjoint(self._U(coefficients / self._singular_values.like(coefficients)))

    def rows_t(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b r"]:
        """``S^-1 U^T H``."""
        return self._Ut(self._apply(x)) / self._singular_values.like(x)

    def _parameters(self) -> dict[str, Any]:
        return {"factor": self.factor, "kernel": self.kernel}


def _check_factor(factor: int, height: int, width: int) -> None:
    if factor < 1 or factor != int(factor):
        raise InputError(f"factor is {factor}; wanted a positive integer")
    if height % factor or width % factor:
        smaller = [size // factor * factor for size in (height, width)]
        larger = [-(-size // factor) * factor for size in (height, width)]
        crop = f"crop to {smaller[0]} x {smaller[1]} or " if all(smaller) else ""
        raise InputError(
            f"factor {factor} does not divide the sides {height} x {width} (height x width); {crop}"
            f"pad to {larger[0]} x {larger[1]}"
        )


def _bicubic_axis(size: int, factor: int) -> Axis:
    coarse = torch.arange(size // factor, dtype=torch.float64)[:, None]
    centre = (coarse + 0.5) * factor - 0.5
    sources = (centre - 2 * factor).ceil() + torch.arange(4 * factor)
    taps = _keys((sources - centre) / factor)
    taps = taps / taps.sum(dim=1, keepdim=True)
    return DenseAxis(stencil_matrix(taps, sources.long(), size, "reflect"))


def _keys(t: Float[Tensor, "out taps"]) -> Float[Tensor, "out taps"]:
    """Keys' cubic convolution kernel, a = -1/2; zero from \\|t\\| = 2 on."""
    t = t.abs()
    near = 1.5 * t**3 - 2.5 * t**2 + 1
    far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    return torch.where(t < 1, near, torch.where(t < 2, far, 0.0))
