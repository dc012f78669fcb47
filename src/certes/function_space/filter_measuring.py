r"""Measure how a network's estimates are best turned back into functions.

At each noise level every cosine coefficient of the training pictures is regressed on what a solver
knows of it, the network's estimate :math:`m` of :math:`T z_0` and the noisy picture :math:`u`:
first on :math:`m` alone, then what that leaves on both. With an exact network nothing is left,
:math:`A = 1/g` and :math:`B = 0`; where a network errs, or a blur has taken more than its precision
keeps, :math:`u` knows better. The two have much in common, so that :math:`B` is kept only as far as
it is sure: shrunk by the positive-part rule of James and Stein (1961; Efron and Morris 1973).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.bases import CosineBasis
from certes.diffusion.noise import stream_seeds
from certes.function_space.denoiser import FunctionDenoiser
from certes.function_space.mollifier import squared_frequencies
from certes.function_space.unmollify import FINEST, PowerLaw, SpectralFilter

Picture = Float[Tensor, "b c h w"]
Nodes = Float[Tensor, "n f"]

# Image units: from a tenth of a grey level, which finer pictures need, to where nothing of a
# picture is left to see.
LEVELS = torch.logspace(-3.4, 1, 18, dtype=torch.float64)
FREQUENCIES = 33
"""How many, from 0 to :data:`~certes.function_space.unmollify.FINEST`."""

_CHUNK = 64
_BASIS = CosineBasis()
_TINY = torch.finfo(torch.float64).tiny

# Standard errors that a gain must have to be kept, in part; twice as many keep three quarters.
_SURE = 3.0
# A blur that leaves less than this leaves nothing.
_FAINTEST = 1e-9

_NYQUIST = math.pi
_RINGS = 6  # of the last octave
# Exponents of functions: a picture's variance is finite above 2, and beyond 8 they are smooth.
_ROUGHEST, _SMOOTHEST = 2.0, 8.0
ROUNDING = 1 / (12 * 255**2)
"""Variance of rounding to 8 bits, image units: what is less was not measured."""

# Spectra are taken for at least this much of it.
_LEAST = 0.01


def measure_filter(
    denoiser: FunctionDenoiser,
    patches: Float[Tensor, "b c s s"],
    levels: Float[Tensor, " l"] = LEVELS,
    seed: int = 0,
) -> SpectralFilter:
    """The best linear filter of a network's estimates.

    Args:
        denoiser: the trained network, of pitch 1.
        patches: training patches, image units.
        levels: noise levels, increasing, image units.
        seed: of the noise.
    """
    symbol = (-(_frequencies() ** 2) * denoiser.reading.mollifier.width**2 / 2).exp()
    symbol = symbol.clamp(min=_FAINTEST)
    rows = [_gains(_sums(denoiser, patches, float(level), seed), symbol) for level in levels]
    alone, estimate, seen = (torch.stack(part).float() for part in zip(*rows, strict=True))
    scale = denoiser.reading.scale
    beyond = fitted_power_law(denoiser.reading.normalised(patches), ROUNDING / scale**2)
    return SpectralFilter(levels / scale, estimate, seen, alone, beyond)


def fitted_power_law(z0: Float[Tensor, "b c s s"], rounding: float) -> PowerLaw:
    """The spectrum of pictures beyond their Nyquist frequency, as their last octave goes on.

    A spectrum that levels off shows the camera's noise, not the function: it is made to fall.

    Args:
        z0: pictures of pitch 1, network units.
        rounding: variance of what their values were rounded by, network units squared.
    """
    place = squared_frequencies((z0.shape[-2], z0.shape[-1]), 1.0).sqrt()
    power = _BASIS.forward(z0.double()).square().mean(dim=(0, 1))
    ring = ((place / _NYQUIST).log2() + 1) * _RINGS
    on = (ring >= 0) & (ring < _RINGS)
    # Means before logarithms: of one coefficient less than the rounding may be left, or nothing.
    number = torch.bincount(ring[on].long(), minlength=_RINGS)
    x, y = (
        torch.bincount(ring[on].long(), values[on], minlength=_RINGS) / number
        for values in ((place / _NYQUIST).log(), power - rounding)
    )
    y = y.clamp(min=_LEAST * rounding).log()
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())
    exponent = min(max(-slope, _ROUGHEST), _SMOOTHEST)
    return PowerLaw(math.exp(float(y.mean() + exponent * x.mean())), exponent, _NYQUIST)


def _frequencies() -> Float[Tensor, " f"]:
    return torch.linspace(0, FINEST, FREQUENCIES, dtype=torch.float64)


def _sums(
    denoiser: FunctionDenoiser, patches: Picture, level: float, seed: int
) -> dict[str, Float[Tensor, " f"]]:
    """Products of the coefficients of z, m / g and u, summed around each frequency."""
    reading, device = denoiser.reading, denoiser.device
    (stream,) = stream_seeds(seed, [f"filter {level:.6g}"])
    generator = torch.Generator().manual_seed(stream)
    shape = (patches.shape[-2], patches.shape[-1])
    nodes, symbol = _nodes(shape), reading.mollifier.symbol(shape).clamp(min=_FAINTEST)
    total = {"count": nodes.sum(dim=1) * (len(patches) * patches.shape[1])}
    for x0 in torch.split(patches, _CHUNK):
        x = (x0 + level * torch.randn(x0.shape, generator=generator)).to(device)
        sigma = x.new_full((len(x),), level)
        # Pictures are blurred about the centre, as the network sees them.
        seen = reading.normalised(x)
        blurred = reading.image(reading.mollifier(seen, denoiser.pitch))
        estimate = reading.normalised(denoiser.blurred(blurred, sigma))
        parts = {"z": reading.normalised(x0), "m": estimate, "u": seen}
        known = {name: _BASIS.forward(part.cpu().double()) for name, part in parts.items()}
        known["m"] = known["m"] / symbol
        for pair in ("zz", "zm", "zu", "mm", "mu", "uu"):
            product = (known[pair[0]] * known[pair[1]]).sum(dim=(0, 1))
            total[pair] = total.get(pair, 0.0) + nodes @ product.flatten()
    return total


def _nodes(shape: tuple[int, int]) -> Float[Tensor, "f n"]:
    """How much every coefficient counts at each frequency: as it is interpolated there.

    Small pictures have none at the highest: what counts below counts there.
    """
    place = squared_frequencies(shape, 1.0).sqrt().flatten() * ((FREQUENCIES - 1) / FINEST)
    number = torch.arange(FREQUENCIES)
    counts = (1 - (place - number[:, None]).abs()).clamp(min=0)
    return counts[torch.where(counts.sum(dim=1) > 0, number, 0).cummax(dim=0).values]


def _gains(
    sums: dict[str, Float[Tensor, " f"]], symbol: Float[Tensor, " f"]
) -> tuple[Float[Tensor, " f"], Float[Tensor, " f"], Float[Tensor, " f"]]:
    """Of m alone; of m beside u; of u beside m."""
    zz, mm, uu = (sums[name].clamp(min=_TINY) for name in ("zz", "mm", "uu"))
    alone = sums["zm"] / mm
    # What is left correlates with u only, of which m explains a part.
    left = (sums["zu"] - alone * sums["mu"]) / uu
    shared = sums["mu"] / mm
    own = (1 - shared * sums["mu"] / uu).clamp(min=_TINY)
    error = (zz - alone * sums["zm"]).clamp(min=_TINY) / (sums["count"] * uu * own)
    of_u = left / own
    of_u = of_u * (1 - _SURE**2 * error / of_u.square().clamp(min=_TINY)).clamp(min=0)
    return alone / symbol, (alone - of_u * shared) / symbol, of_u
