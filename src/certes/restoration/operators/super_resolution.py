"""Super-resolution: the picture was measured on a coarser grid."""

from __future__ import annotations

from typing import Any, Literal, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from certes.errors import InputError
from certes.restoration.operators.axes import Axis, BlockMeanAxis, DenseAxis, stencil_matrix
from certes.restoration.operators.base import checked_shape
from certes.restoration.operators.separable import Separable

Downsampling = Literal["box", "bicubic"]

_FAR_FROM_ZERO = 1e-3  # relative to the largest singular value


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
        self,
        shape: tuple[int, int, int],
        factor: int,
        kernel: Downsampling | Float[Tensor, " taps"] = "box",
    ) -> None:
        shape = checked_shape(shape)
        check_factor(factor, *shape[1:])
        self.factor, self.kernel = int(factor), kernel
        super().__init__(shape, *(_axis(size, self.factor, kernel) for size in shape[1:]))
        largest, smallest = self.singular_values.max(), self.singular_values.min()
        self._invertible = bool(smallest > _FAR_FROM_ZERO * largest)

    def rows(self, coefficients: Float[Tensor, "b r"]) -> Float[Tensor, "b c h w"]:
        """``H^T U S^-1`` where no singular value is near zero (never with box and bicubic)."""
        if not self._invertible:
            return super().rows(coefficients)
        return self._adjoint(self._U(coefficients / self._singular_values.like(coefficients)))

    def rows_t(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b r"]:
        """``S^-1 U^T H``, likewise."""
        if not self._invertible:
            return super().rows_t(x)
        return self._Ut(self._apply(x)) / self._singular_values.like(x)

    def _parameters(self) -> dict[str, Any]:
        return {"factor": self.factor, "kernel": _in_json(self.kernel)}


def check_factor(factor: int, height: int, width: int) -> None:
    """An ``InputError`` for a factor that is no positive integer or does not divide both sides."""
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


def _axis(size: int, factor: int, kernel: str | Float[Tensor, " taps"]) -> Axis:
    if isinstance(kernel, Tensor):
        return _taps_axis(size, factor, _checked_taps(kernel))
    if kernel not in get_args(Downsampling):
        raise InputError(f"kernel is {kernel!r}; wanted 'box' or 'bicubic', or a tensor (taps,)")
    return BlockMeanAxis(size, factor) if kernel == "box" else _bicubic_axis(size, factor)


def _taps_axis(size: int, factor: int, taps: Float[Tensor, " taps"]) -> Axis:
    kept = torch.arange((factor - 1) // 2, size, factor)[:, None]
    sources = kept + len(taps) // 2 - torch.arange(len(taps))
    return DenseAxis(stencil_matrix(taps.expand(len(kept), -1), sources, size, "reflect"))


def _checked_taps(kernel: Float[Tensor, " taps"]) -> Float[Tensor, " taps"]:
    if kernel.ndim != 1:
        raise InputError(f"kernel has shape {tuple(kernel.shape)}; wanted (taps,), for both axes")
    taps = kernel.detach().to("cpu", torch.float64)
    if not bool(taps.isfinite().all()) or not bool(taps.any()):
        raise InputError("kernel is empty, all zero or not finite; wanted finite weights")
    return taps


def _in_json(kernel: str | Float[Tensor, " taps"]) -> Any:
    return cast(Any, kernel).tolist() if isinstance(kernel, Tensor) else kernel


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
