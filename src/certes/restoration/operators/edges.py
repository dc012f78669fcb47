"""Line drawings: a picture was measured by where its brightness jumps."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from certes.errors import InputError
from certes.restoration.operators.base import Operator, checked_shape
from certes.restoration.operators.constants import Constant

_LUMINANCE = torch.tensor([0.299, 0.587, 0.114])  # ITU-R BT.601
_REACH = 3  # standard deviations to where the smoothing kernel is cut off
_BEYOND = 2  # pixels outside the picture that a gradient and its neighbour look at
_TIE = 1e-5  # steps that differ by less are equal: rounding errors must not choose between them


class Edges(Operator):
    r"""Canny's edge detector without hysteresis: 1 on lines one pixel wide, 0 elsewhere.

    The luminance is smoothed by a Gaussian; Sobel's differences give its gradient; a pixel is an
    edge where the gradient is not less than ``threshold`` and largest along its own direction,
    where it is compared with the two points one pixel ahead and behind (linearly interpolated).
    Of equal pixels side by side the brightest is the edge, so that turning or mirroring a picture
    turns or mirrors its edges. Outside, the picture is mirrored at its border pixels.

    Gradients are in units of the contrast of an ideal step: with the smoothing kernel g, a
    straight step of height h along an axis has, divided by :math:`(g_0 + g_1) / 2`, the
    gradient h.

    Source: Canny, A computational approach to edge detection (IEEE TPAMI 8, 1986).

    Args:
        shape: (C, H, W) of a picture, C = 1 or 3.
        sigma: standard deviation of the smoothing, pixels.
        threshold: contrast, in image units, of the faintest step along an axis that is an edge.

    Raises:
        InputError: other channels, a picture too small for the smoothing, or a sigma or threshold
            that is not positive and finite.
    """

    name = "edges"

    def __init__(
        self, shape: tuple[int, int, int], sigma: float = 1.0, threshold: float = 0.1
    ) -> None:
        channels, height, width = shape = checked_shape(shape)
        if channels not in (1, 3):
            raise InputError(f"shape: {channels} channels; wanted 1 (grey) or 3 (RGB)")
        _check_positive("sigma", sigma)
        _check_positive("threshold", threshold)
        self.sigma, self.threshold = float(sigma), float(threshold)
        kernel = _gaussian(self.sigma)
        self._margin = len(kernel) // 2 + _BEYOND
        if min(height, width) <= self._margin:
            raise InputError(
                f"shape: {height} x {width} pixels; sigma {sigma:g} needs more than {self._margin} "
                "a side: lower it or give a larger picture"
            )
        self._kernel = Constant(kernel)
        self._luminance = Constant(_LUMINANCE.double() if channels == 3 else torch.ones(1))
        super().__init__(shape, (1, height, width))

    def _apply(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
        grey = (x * self._luminance.like(x)[:, None, None]).sum(1, keepdim=True)
        kernel = self._kernel.like(x)
        margin = self._margin
        smooth = _smoothed(F.pad(grey, (margin,) * 4, mode="reflect"), kernel)
        middle = len(kernel) // 2
        rows, columns = _gradient(smooth / (kernel[middle] + kernel[middle + 1]) * 2)
        return _strongest(rows, columns, self.threshold).to(x.dtype)

    def _parameters(self) -> dict[str, Any]:
        return {"sigma": self.sigma, "threshold": self.threshold}


def _check_positive(argument: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{argument} is {value}; wanted a positive number")


def _gaussian(sigma: float) -> Float[Tensor, " taps"]:
    """A Gaussian at whole pixels, summing to one, float64."""
    radius = math.ceil(_REACH * sigma)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = (-0.5 * (offsets / sigma).square()).exp()
    return weights / weights.sum()


def _smoothed(
    x: Float[Tensor, "b 1 h w"], kernel: Float[Tensor, " taps"]
) -> Float[Tensor, "b 1 h2 w2"]:
    """Convolution with the kernel along both axes, where all of it fits in."""
    return F.conv2d(F.conv2d(x, kernel[None, None, :, None]), kernel[None, None, None, :])


def _gradient(
    x: Float[Tensor, "b 1 h w"],
) -> tuple[Float[Tensor, "b 1 h2 w2"], Float[Tensor, "b 1 h2 w2"]]:
    """Sobel's differences per pixel, down the rows and along the columns."""
    smoothing, difference = x.new_tensor([0.25, 0.5, 0.25]), x.new_tensor([-0.5, 0.0, 0.5])
    rows = F.conv2d(x, torch.outer(difference, smoothing)[None, None])
    columns = F.conv2d(x, torch.outer(smoothing, difference)[None, None])
    return rows, columns


def _strongest(
    rows: Float[Tensor, "b 1 h2 w2"], columns: Float[Tensor, "b 1 h2 w2"], threshold: float
) -> Tensor:
    """Where the gradient is large and largest along its direction; the outermost pixels are lost.

    Ahead, towards the brighter, it has to be larger, behind it only not smaller: so just one of
    several equal pixels is left.
    """
    size = torch.hypot(rows, columns)
    inner = (..., slice(1, -1), slice(1, -1))
    here, down, right = size[inner], rows[inner], columns[inner]
    larger = here >= threshold - _TIE
    ahead = here > _beside(size, down, right) + _TIE
    behind = here >= _beside(size, -down, -right) - _TIE
    return larger & ahead & behind


def _beside(
    size: Float[Tensor, "b 1 h2 w2"],
    down: Float[Tensor, "b 1 h w"],
    right: Float[Tensor, "b 1 h w"],
) -> Float[Tensor, "b 1 h w"]:
    """The values where the direction (down, right) meets the square of the eight neighbours."""
    longest = torch.maximum(down.abs(), right.abs()).clamp(min=torch.finfo(down.dtype).tiny)
    down, right = down / longest, right / longest
    straight = _neighbour(size, down.trunc(), right.trunc())
    diagonal = _neighbour(size, down.sign(), right.sign())
    return torch.lerp(straight, diagonal, torch.minimum(down.abs(), right.abs()))


def _neighbour(
    size: Float[Tensor, "b 1 h2 w2"],
    down: Float[Tensor, "b 1 h w"],
    right: Float[Tensor, "b 1 h w"],
) -> Float[Tensor, "b 1 h w"]:
    """For each inner pixel the value that many (-1, 0 or 1) rows and columns from it."""
    height, width = size.shape[-2:]
    row = torch.arange(1, height - 1, device=size.device)[:, None]
    column = torch.arange(1, width - 1, device=size.device)
    place = (row + down.long()) * width + column + right.long()
    return size.flatten(2).gather(2, place.flatten(2)).reshape(place.shape)
