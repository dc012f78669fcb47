"""Linear measurements :math:`y = H x`, each with its exact, matrix-free singular values.

The degradations of DDRM (Kawar et al., "Denoising Diffusion Restoration Models", 2022), for
pictures of any size and channel count. One operator per file over the one base class of ``base``;
``axes``, ``separable``, ``spectral`` and ``pixelwise`` hold the decompositions that they share.
Nothing here knows a model, a sampler or noise.
"""

from __future__ import annotations

from certes.restoration.operators.base import LinearOperator
from certes.restoration.operators.blur import Blur
from certes.restoration.operators.denoise import Denoise
from certes.restoration.operators.inpaint import Inpaint
from certes.restoration.operators.kernels import gaussian_kernel, uniform_kernel
from certes.restoration.operators.super_resolution import SuperResolution

__all__ = [
    "Blur",
    "Denoise",
    "Inpaint",
    "LinearOperator",
    "SuperResolution",
    "gaussian_kernel",
    "uniform_kernel",
]
