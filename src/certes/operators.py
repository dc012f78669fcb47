"""The public name of the linear operators; they live in :mod:`certes.restoration.operators`."""

from __future__ import annotations

from certes.restoration.operators import (
    Blur,
    Colorize,
    CompressedSensing,
    DecomposedOperator,
    Denoise,
    Dense,
    Downsample,
    Inpaint,
    LinearOperator,
    Operator,
    PerChannel,
    SubsampledFourier,
    SuperResolution,
    box_mask,
    cartesian_mask,
    gaussian_kernel,
    random_mask,
    text_mask,
    uniform_kernel,
)

__all__ = [
    "Blur",
    "Colorize",
    "CompressedSensing",
    "DecomposedOperator",
    "Denoise",
    "Dense",
    "Downsample",
    "Inpaint",
    "LinearOperator",
    "Operator",
    "PerChannel",
    "SubsampledFourier",
    "SuperResolution",
    "box_mask",
    "cartesian_mask",
    "gaussian_kernel",
    "random_mask",
    "text_mask",
    "uniform_kernel",
]
