"""Blur kernels as the command line names them: a shape with its sizes, or a picture of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from certes.data.pictures import SUFFIXES, read_picture
from certes.errors import InputError
from certes.restoration import operators
from certes.restoration.operators.blur import Kernel
from certes.restoration.operators.kernels import kernel_from_picture

AUTO = "auto"
"""The width of a Gaussian blur, estimated from each picture."""

_SHAPES: dict[str, tuple[str, Callable[..., Kernel]]] = {
    "gaussian": ("SIGMA", operators.gaussian_kernel),
    "anisotropic": ("SIGMA_ROWS,SIGMA_COLUMNS", operators.anisotropic_kernel),
    "uniform": ("WIDTH", operators.uniform_kernel),
    "disk": ("RADIUS", operators.disk_kernel),
    "motion": ("LENGTH,ANGLE", operators.motion_kernel),
}


def blur_kernel(spec: str) -> Kernel:
    """A kernel from ``gaussian:2``, ``motion:9,30`` and the like (pixels, degrees), or a picture.

    Raises:
        InputError: for anything else.
    """
    if Path(spec).suffix.lower() in SUFFIXES:
        return kernel_from_picture(read_picture(spec, smallest=1).pixels)
    kind, _, sizes = spec.partition(":")
    if kind in _SHAPES:
        names, make = _SHAPES[kind]
        numbers = _numbers(sizes)
        if len(numbers) == len(names.split(",")):
            return make(*numbers)
    known = ", ".join(f"{kind}:{names}" for kind, (names, _) in _SHAPES.items())
    raise InputError(f"kernel: {spec!r}; give {known}, a picture of the kernel, or auto")


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        return []
