"""Measurements :math:`y = H x` of pictures of any size and channel count.

Most are linear with exact, matrix-free singular values: the degradations of DDRM (Kawar et al.,
"Denoising Diffusion Restoration Models", 2022) and more. Some are linear and known by their adjoint
alone (tomography, several coils, varying blur, a border that nobody measured), some are rounded
(JPEG, few grey levels), one tells nothing but where edges are. One operator per file over the base
classes of ``base`` and ``rounded``; ``axes``, ``separable``, ``spectral``, ``hadamard``,
``selection`` and ``pixelwise`` hold the decompositions that they share, ``masks``, ``frequencies``
and ``kernels`` make their arguments. Nothing here knows a model, a sampler or noise.
"""

from __future__ import annotations

from certes.restoration.operators.base import DecomposedOperator, LinearOperator, Operator
from certes.restoration.operators.blur import Blur
from certes.restoration.operators.colorize import Colorize
from certes.restoration.operators.compressed_sensing import CompressedSensing
from certes.restoration.operators.denoise import Denoise
from certes.restoration.operators.dense import Dense
from certes.restoration.operators.downsample import Downsample
from certes.restoration.operators.edges import Edges
from certes.restoration.operators.fourier import SubsampledFourier
from certes.restoration.operators.frequencies import cartesian_mask
from certes.restoration.operators.inpaint import Inpaint
from certes.restoration.operators.jpeg import Jpeg
from certes.restoration.operators.kernels import (
    anisotropic_kernel,
    disk_kernel,
    gaussian_kernel,
    kernel_from_picture,
    motion_kernel,
    normalised,
    uniform_kernel,
)
from certes.restoration.operators.masks import box_mask, random_mask, text_mask
from certes.restoration.operators.multicoil import MultiCoilMRI
from certes.restoration.operators.per_channel import PerChannel
from certes.restoration.operators.quantise import Quantise
from certes.restoration.operators.rounded import RoundedOperator
from certes.restoration.operators.scattered import SampledAt
from certes.restoration.operators.stacked import Stacked
from certes.restoration.operators.super_resolution import SuperResolution
from certes.restoration.operators.tomography import Tomography
from certes.restoration.operators.valid_blur import ValidBlur
from certes.restoration.operators.varying_blur import VaryingBlur

__all__ = [
    "Blur",
    "Colorize",
    "CompressedSensing",
    "DecomposedOperator",
    "Denoise",
    "Dense",
    "Downsample",
    "Edges",
    "Inpaint",
    "Jpeg",
    "LinearOperator",
    "MultiCoilMRI",
    "Operator",
    "PerChannel",
    "Quantise",
    "RoundedOperator",
    "SampledAt",
    "Stacked",
    "SubsampledFourier",
    "SuperResolution",
    "Tomography",
    "ValidBlur",
    "VaryingBlur",
    "anisotropic_kernel",
    "box_mask",
    "cartesian_mask",
    "disk_kernel",
    "gaussian_kernel",
    "kernel_from_picture",
    "motion_kernel",
    "normalised",
    "random_mask",
    "text_mask",
    "uniform_kernel",
]
