"""The public name of the linear operators; they live in :mod:`certes.restoration.operators`."""

from __future__ import annotations

from certes.restoration.operators import (
    Blur,
    Denoise,
    Inpaint,
    LinearOperator,
    SuperResolution,
    gaussian_kernel,
    uniform_kernel,
)

__all__ = [
    "Blur",
    "Denoise",
    "Inpaint",
    "LinearOperator",
    "SuperResolution",
    "gaussian_kernel",
    "uniform_kernel",
]
