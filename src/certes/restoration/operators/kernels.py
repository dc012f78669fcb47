"""Blur kernels: made from a few numbers, or read from a user's picture of one.

Taps ``(taps,)`` are used along both axes, a pair along the height and along the width, a plane
``(a, b)`` as it is; see :class:`certes.restoration.operators.blur.Blur`. The middle of an odd
kernel is its anchor.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from certes.errors import InputError
from certes.restoration.operators.blur import Kernel

_TRUNCATE = 4.0  # standard deviations, as scipy.ndimage.gaussian_filter1d
_SUBPIXELS = 16  # a side: how finely the share of a pixel that a shape covers is counted


def gaussian_kernel(sigma: float) -> Float[Tensor, " taps"]:
    """A Gaussian of standard deviation ``sigma`` pixels, cut at 4 sigma; odd, summing to one."""
    _check_positive("sigma", sigma)
    radius = int(_TRUNCATE * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    return weights / weights.sum()


def anisotropic_kernel(
    sigma_rows: float, sigma_columns: float
) -> tuple[Float[Tensor, " a"], Float[Tensor, " b"]]:
    """A Gaussian of different widths along the height and along the width, standard deviations in
    pixels: the pair of kernels that :class:`Blur` takes, each odd and summing to one."""
    return gaussian_kernel(sigma_rows), gaussian_kernel(sigma_columns)


def uniform_kernel(width: int) -> Float[Tensor, " taps"]:
    """``width`` equal taps summing to one."""
    if width < 1 or width != int(width):
        raise InputError(f"width is {width}; wanted a positive integer number of pixels")
    return torch.full((int(width),), 1 / width, dtype=torch.float64)


def motion_kernel(length: float, angle: float) -> Float[Tensor, "a b"]:
    """Uniform motion along a straight line, odd-sided and summing to one.

    The share of each pixel that a line of this length and one pixel's width covers; an odd
    ``length`` at a multiple of 90 degrees gives ``length`` equal taps.

    Args:
        length: pixels travelled while the shutter was open.
        angle: degrees counter-clockwise from the picture's width, as seen on a screen.

    Raises:
        InputError: a length that is not positive, or numbers that are not finite.
    """
    _check_positive("length", length)
    if not math.isfinite(angle):
        raise InputError(f"angle is {angle}; wanted degrees counter-clockwise")
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))

    def on_the_line(down: Tensor, right: Tensor) -> Tensor:
        along, across = cosine * right - sine * down, sine * right + cosine * down
        return (along.abs() <= length / 2) & (across.abs() <= 1 / 2)

    return _covered(on_the_line, math.hypot(length / 2, 1 / 2))


def disk_kernel(radius: float) -> Float[Tensor, "a a"]:
    """A lens out of focus: the share of each pixel that a disk covers; odd-sided, summing to one.

    Args:
        radius: of the disk, pixels.

    Raises:
        InputError: a radius that is not positive and finite.
    """
    _check_positive("radius", radius)
    return _covered(lambda down, right: down**2 + right**2 <= radius**2, radius)


def kernel_from_picture(pixels: Float[Tensor, "c h w"]) -> Float[Tensor, "a b"]:
    """A kernel from a picture of it: the mean over channels, divided by its sum, float64.

    The anchor is the middle of the picture, as for the same numbers given as a plane, so that a
    restoration lies on the picture where the kernel's author meant it to. Centring the kernel on
    its mass instead would shift the restoration against other programs'. Rows and columns that are
    black on both sides are cut off in pairs, which moves nothing.

    Black means no light: no background is taken off, since a level that is left over from the
    camera and the skirts of the kernel itself look alike. Subtract it before.

    Raises:
        InputError: values that are negative or not finite, or none above zero.
    """
    if pixels.ndim != 3 or 0 in pixels.shape:
        raise InputError(f"kernel picture has shape {tuple(pixels.shape)}; wanted (C, H, W)")
    plane = pixels.double().mean(dim=0).cpu()
    if not bool(plane.isfinite().all()):
        raise InputError("kernel picture holds values that are not finite; fill them with zeros")
    if bool((plane < 0).any()):
        raise InputError(
            f"kernel picture has values down to {float(plane.min()):.3g}; light is never negative: "
            f"subtract less background, or set what is below zero to zero"
        )
    if not bool(plane.any()):
        raise InputError("kernel picture is black throughout; wanted the bright trace of a point")
    return _divided_by_sum(_trimmed(plane))


def normalised(kernel: Kernel) -> Kernel:
    """The kernel divided by its sum, so that a blur keeps brightness; each one of a pair.

    Raises:
        InputError: a kernel that is not finite or whose sum is not positive.
    """
    if isinstance(kernel, Tensor):
        return _divided_by_sum(kernel)
    rows, columns = kernel
    return _divided_by_sum(rows), _divided_by_sum(columns)


def check_unit_sum(kernel: Kernel, tolerance: float = 1e-3) -> None:
    """Refuse a kernel that would brighten or darken what it blurs.

    Args:
        kernel: as :class:`Blur` takes it; the sum is that of the plane it stands for.
        tolerance: largest accepted distance of the sum from one.

    Raises:
        InputError: a kernel that does not sum to one, with the way out.
    """
    total = _sum_of_plane(kernel)
    if not abs(total - 1) <= tolerance:
        raise InputError(
            f"kernel sums to {total:.3g}; a blur keeps brightness, so it must sum to 1: divide it "
            f"by its sum (certes.operators.normalised)"
        )


def _check_positive(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise InputError(f"{name} is {value}; wanted a positive number of pixels")


def _divided_by_sum(weights: Float[Tensor, " *shape"]) -> Float[Tensor, " *shape"]:
    total = float(weights.sum())
    if not (total > 0 and math.isfinite(total)):
        raise InputError(f"kernel sums to {total:.3g}; wanted weights with a positive, finite sum")
    return weights / total


def _sum_of_plane(kernel: Kernel) -> float:
    if isinstance(kernel, Tensor) and kernel.ndim == 2:
        return float(kernel.sum())
    rows, columns = (kernel, kernel) if isinstance(kernel, Tensor) else kernel
    return float(rows.sum()) * float(columns.sum())


def _covered(
    inside: Callable[[Tensor, Tensor], Bool[Tensor, "n m"]], reach: float
) -> Float[Tensor, "a b"]:
    """The share of each pixel that lies inside a shape, divided by the sum.

    Args:
        inside: of points, given pixels downwards (n, 1) and to the right (1, m) of the centre.
        reach: pixels from the centre beyond which nothing is inside.
    """
    side = 2 * math.ceil(reach - 1 / 2) + 1
    offsets = torch.arange(side * _SUBPIXELS, dtype=torch.float64)
    points = ((offsets + 0.5) / _SUBPIXELS - side / 2).reshape(side, _SUBPIXELS)
    rows = [inside(down[:, None], points.reshape(1, -1)) for down in points]
    shares = [row.double().reshape(_SUBPIXELS, side, -1).mean(dim=(0, 2)) for row in rows]
    return _divided_by_sum(_trimmed(torch.stack(shares)))


def _trimmed(plane: Float[Tensor, "a b"]) -> Float[Tensor, "a2 b2"]:
    """Without outer rows and columns, as many on either side, that are zero on both."""
    rows, columns = _margin(plane.any(dim=1)), _margin(plane.any(dim=0))
    return plane[rows : len(plane) - rows, columns : plane.shape[1] - columns]


def _margin(bright: Bool[Tensor, " n"]) -> int:
    """How many can be cut off on either side without losing a bright one."""
    return int((bright | bright.flip(0)).int().argmax())
