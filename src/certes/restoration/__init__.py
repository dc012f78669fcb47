"""Restoration (DDRM, Kawar et al. 2022): pictures from measurements ``y = H x + noise``.

May live here: linear operators with matrix-free singular value decompositions, posterior
samplers, noise estimation, degradations, tiling. What a posterior is and what its intervals promise
is said in ``certes.intervals``; which network serves as prior in ``certes.networks``.
"""

from __future__ import annotations

from certes.restoration.blur_width import estimate_blur_width
from certes.restoration.degradations import degrade
from certes.restoration.noise import estimate_noise, measure_noise
from certes.restoration.restore import restore
from certes.restoration.signal_noise import measure_signal_noise
from certes.restoration.variance_stabilising import VarianceStabiliser

__all__ = [
    "VarianceStabiliser",
    "degrade",
    "estimate_blur_width",
    "estimate_noise",
    "measure_noise",
    "measure_signal_noise",
    "restore",
]
