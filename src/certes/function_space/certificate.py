r"""The discretisation certificate: how much a model's answers depend on the resolution.

A neural operator should answer the same function at every resolution of one function; those that
do so only on the training grid have "discretisation mismatch errors" (Bartolucci et al. 2023,
arXiv:2305.19913). Three numbers say how far a model of functions is from it, of a picture r times
as fine as the training pictures:

* ``operator_error``: a noisy function that the coarser lattice shows in full (its cosine series
  ends at the coarser Nyquist frequency) is shown to the network on both, and its two estimates of
  the clean blurred function, :math:`F_r` and :math:`F_1`, are compared below that frequency,
  :math:`\| F_r - F_1 \| / \| F_1 \|`: root mean square over functions and noise levels. No
  interpolation is judged, and no noise that only one of the two has seen.
* ``spectral_distance_db``: of samples that were drawn at both resolutions from shared noise: the
  root mean square difference of their radial power spectra below the coarser Nyquist frequency, in
  decibels.
* ``aliased_energy``: what a picture of the training resolution cannot show of mollified white
  noise, and shows as something else, along an axis: :math:`\mathrm{erfc}(\pi w)` of a mollifier of
  width :math:`w`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.bases import CosineBasis
from certes.diffusion.noise import stream_seeds
from certes.diffusion.solvers.sampling import SIGMA_MAX, ReverseChain
from certes.function_space.denoiser import FunctionDenoiser
from certes.function_space.filter_measuring import ROUNDING
from certes.function_space.mollifier import squared_frequencies
from certes.function_space.noise import CoupledNoise

FINENESS = (2.0, 3.0, 4.0, 0.5)
"""r: pixels of the other resolution for each of the training pictures'."""

RATIOS = (0.1, 0.5, 2.0)
"""Noise levels of the operator error, units of the network: little, as much as signal, much."""

_PATCHES, _SAMPLES, _STEPS = 8, 8, 16
_FINER = 2.0
_BINS = 16
_BASIS = CosineBasis()


def certificate(
    denoiser: FunctionDenoiser, patches: Float[Tensor, "b c s s"], seed: int = 0
) -> dict[str, Any]:
    """What a model's card says of its discretisation; under a minute for a small network.

    Args:
        denoiser: the trained network, of pitch 1.
        patches: training patches, image units; the first few are looked at.
        seed: of the noise.
    """
    z0 = denoiser.reading.normalised(patches[:_PATCHES]).to(denoiser.device)
    errors = {f"{r:g}": operator_error(denoiser, z0, r, seed) for r in FINENESS}
    return {
        "operator_error": {r: float(f"{error:.3g}") for r, error in errors.items()},
        "spectral_distance_db": {
            f"{_FINER:g}": round(spectral_distance(denoiser, patches.shape[-1], seed), 3)
        },
        "aliased_energy": float(f"{math.erfc(math.pi * denoiser.reading.mollifier.width):.3g}"),
        "functions": len(z0),
        "samples": _SAMPLES,
        "noise_levels": list(RATIOS),
    }


def operator_error(
    denoiser: FunctionDenoiser, z0: Float[Tensor, "b c s s"], finer: float, seed: int = 0
) -> float:
    r"""How far apart the network's estimates of one function at two resolutions are, relatively.

    Args:
        denoiser: the network, of pitch 1.
        z0: functions at pitch 1, network units.
        finer: r, the other resolution, pixels for each of pitch 1; below 1, it is the coarser.
        seed: of the noise.
    """
    noise = CoupledNoise(_seeds(seed, len(z0)), z0.device)
    kept = [round(side * min(finer, 1.0)) for side in z0.shape[-2:]]
    white = noise.coefficients(z0.shape[1:], z0.dtype)
    clean, white = (part[..., : kept[0], : kept[1]] for part in (_BASIS.forward(z0), white))
    domain = (z0.shape[-2], z0.shape[-1])
    differing = norm = 0.0
    for ratio in RATIOS:
        level = ratio / denoiser.reading.mollifier.typical_deviation()
        series = clean + level * white
        one, other = (_estimate(denoiser, series, level, domain, r) for r in (1.0, finer))
        differing += float((other - one).square().sum())
        norm += float(one.square().sum())
    return math.sqrt(differing / norm)


def _estimate(
    denoiser: FunctionDenoiser,
    series: Float[Tensor, "b c k l"],
    level: float,
    domain: tuple[int, int],
    finer: float,
) -> Float[Tensor, "b c k l"]:
    """The cosine series of the estimate of a clean blurred function.

    Args:
        denoiser: the network.
        series: of the noisy function, as coefficients of pictures of pitch 1.
        level: of its noise, network units.
        domain: sides, in pixels of pitch 1.
        finer: pixels of the lattice that shows it, for each of pitch 1.
    """
    reading, there = denoiser.reading, denoiser.at(1 / finer)
    rows, columns = series.shape[-2:]
    height, width = (round(side * finer) for side in domain)
    shown = _BASIS.inverse(F.pad(series * finer, (0, width - columns, 0, height - rows)))
    sigma = shown.new_full((len(shown),), level * reading.scale * finer)
    answer = there.blurred(reading.image(reading.mollifier(shown, there.pitch)), sigma)
    return _BASIS.forward(reading.normalised(answer))[..., :rows, :columns] / finer


def spectral_distance(
    denoiser: FunctionDenoiser, side: int, seed: int = 0, finer: float = _FINER
) -> float:
    """Decibels between the spectra of samples at two resolutions, from shared noise.

    Nothing below the rounding of 8-bit pictures counts.

    Args:
        denoiser: the network, of pitch 1.
        side: of the pictures of pitch 1.
        seed: of the noise.
        finer: r, of the other resolution.
    """
    one, other = (
        _radial_power(_drawn(denoiser, side, seed, r), side, denoiser.reading.scale)
        for r in (1.0, finer)
    )
    return float((10 * (other / one).log10()).square().mean().sqrt())


def _drawn(
    denoiser: FunctionDenoiser, side: int, seed: int, finer: float
) -> Float[Tensor, "b c s s"]:
    """Cosine series of samples, as coefficients of pictures of pitch 1, below its Nyquist."""
    reading, chain = denoiser.reading, ReverseChain("dpm_solver_2m", _STEPS)
    # Noise of one level for each unit of area is more for each of smaller pixels.
    grid = chain.grid(SIGMA_MAX) * finer
    noise, pixels = CoupledNoise(_seeds(seed, _SAMPLES), denoiser.device), round(side * finer)
    x = reading.center + float(grid[0]) * noise.normal((denoiser.channels, pixels, pixels))
    *_, last = chain(denoiser.at(1 / finer), x, grid, noise)
    return _BASIS.forward(reading.normalised(last.x))[..., :side, :side] / finer


def _radial_power(
    series: Float[Tensor, "b c s s"], side: int, scale: float
) -> Float[Tensor, " bins"]:
    """Mean square of the coefficients in rings up to the Nyquist frequency of pitch 1."""
    power = series.double().square().mean(dim=(0, 1)).cpu()
    ring = (squared_frequencies((side, side), 1.0).sqrt() * (_BINS / math.pi)).long()
    inside = ring < _BINS
    total, count = (
        torch.zeros(_BINS, dtype=torch.float64).index_add(0, ring[inside], values[inside])
        for values in (power, torch.ones_like(power))
    )
    return total / count.clamp(min=1) + ROUNDING / scale**2


def _seeds(seed: int, count: int) -> list[int]:
    return stream_seeds(seed, [f"certificate {i}" for i in range(count)])
