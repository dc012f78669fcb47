"""What both sides think of the clean picture, in numbers that two machines agree on.

Two machines, two thread counts or two batch sizes give a network's answers that differ in their
last digits. So networks answer in float64, their answers are rounded to a grid that is coarse
against those digits and fine against the noise, and the sender shifts that grid (and tells by how
much) where a value lies too close to a border between two of its points. The sender tells, too, by
how much the variances are off for this very picture: a chain whose steps are given too little falls
behind its own noise level, and further behind with every step.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.rates import RateCurve, error_variance
from certes.errors import ModelError
from certes.generation.codec.codebook import Floats, normals
from certes.networks.model import Model
from certes.networks.tiling import fitted

LOG_UNIT = 1 / 16  # octaves: of a variance
SHIFTS = 8
SCALES = range(-4, 12)  # of a picture's variances, in half octaves
# A picture may come this close to a border, in units of the grid and of 1 / values: in one picture
# of thirty the grid is shifted, and float64 noise stays thousands of times below.
_CLEARANCE = 1 / 64
# Of the standard deviation of the step's noise: costs 1e-4 bits per value in all.
_FINENESS = 2.0**-6
# From here nothing of a picture is left to see; what is thought of it is what is always thought.
_START = 1000.0
_DARKEST, _BRIGHTEST = -2.0, 3.0
_LOG_VARIANCE = (-40.0, 8.0)


@dataclass(frozen=True)
class Opinion:
    """A denoiser's answer, value by value: float64, as it came.

    Args:
        mean: ``E[x_0 | x]``, image units.
        log_variance: base 2, of ``Var[x_0 | x]``.
    """

    mean: Floats
    log_variance: Floats

    def margin(self, level: float, shift: int) -> float:
        """The distance of the closest value to a border of the grid, in units of the grid."""
        scaled = (self.mean / quantum(level), self.log_variance / LOG_UNIT)
        return min(float(np.abs(v + _offset(shift) - _border(v, shift)).min()) for v in scaled)

    def settle(self, level: float, shift: int) -> Belief:
        """Round to the grid for a noise level, shifted by ``shift / 8`` of its unit."""
        unit = quantum(level)
        mean = _rounded(self.mean / unit, shift) * unit
        return Belief(mean, _rounded(self.log_variance / LOG_UNIT, shift) * LOG_UNIT)

    def best_shift(self, level: float) -> int:
        """The first shift whose grid keeps clear of all values, or the one that does so best."""
        margins: list[float] = []
        for shift in range(SHIFTS):
            margins.append(self.margin(level, shift))
            if margins[-1] >= _CLEARANCE / len(self.mean):
                return shift
        return int(np.argmax(margins))


@dataclass(frozen=True)
class Belief:
    """An opinion on the grid: the same on every machine.

    Args:
        mean: image units.
        log_variance: base 2, in whole 1/128.
    """

    mean: Floats
    log_variance: Floats

    def scaled(self, scale: int) -> Belief:
        """The same with variances ``2^(scale / 2)`` times as large."""
        return Belief(self.mean, self.log_variance + scale / 2)

    def bits(self, x0: Floats, gain: float) -> float:
        """What it costs to learn ``gain`` more of ``1 / noise^2`` about ``x0`` with this belief."""
        ratio = 1 + np.exp2(self.log_variance) * gain
        surprise = (1 + np.square(x0 - self.mean) * gain) / ratio - 1
        return float((np.log(ratio) + surprise).sum()) / math.log(4)

    def best_scale(self, x0: Floats, gain: float) -> int:
        """The scale, of :data:`SCALES`, that makes this cheapest."""
        return min(SCALES, key=lambda scale: self.scaled(scale).bits(x0, gain))


class PortableDenoiser:
    """A denoiser in float64, asked about pictures as flat arrays.

    Args:
        prior: the denoiser; a model's network is copied, its weights as bfloat16 has them.
        shape: of the pictures, (b, c, h, w).
        rates: what is known of its errors.
    """

    def __init__(self, prior: Denoiser, shape: tuple[int, int, int, int], rates: RateCurve) -> None:
        self.shape = shape
        self.rates = rates
        self.device = prior.device or torch.device("cpu")
        self.limits = (0.0, 1.0) if prior.confined else (_DARKEST, _BRIGHTEST)
        self._denoiser = fitted(in_double(prior), shape[1:])

    def __call__(self, x: Floats, level: float) -> Opinion:
        """What is thought of ``x`` at a noise level.

        Raises:
            ModelError: if the answer is not finite, or the model does not fit the picture.
        """
        sigma = torch.full((self.shape[0],), level, dtype=torch.float64, device=self.device)
        denoised = self._denoiser(self.picture(x).to(self.device), sigma)
        mse = self.rates.mse_at(level)
        variance = error_variance(self._denoiser, denoised, sigma, mse)
        log_variance = variance.log2().clamp(*_LOG_VARIANCE).cpu().numpy().ravel()
        mean = denoised.mean.clamp(*self.limits).cpu().numpy().ravel()
        if not (np.isfinite(mean).all() and np.isfinite(log_variance).all()):
            raise ModelError(
                "model: its answer is not finite, so that nothing can be coded with it"
            )
        return Opinion(mean, log_variance)

    def start(self) -> Opinion:
        """What is thought before anything is told."""
        noise = normals(0, int(np.prod(self.shape)))
        return self(0.5 + _START * noise, _START)

    def picture(self, values: Floats) -> Tensor:
        """Flat values as pictures (b, c, h, w), float64, on the CPU."""
        return torch.as_tensor(values).reshape(self.shape)


def in_double(prior: Denoiser) -> Denoiser:
    """A model whose network computes in float64; other denoisers do so if asked in float64.

    Weights are rounded to bfloat16 first: it is what some machines load and others do not.
    """
    if not isinstance(prior, Model):
        return prior
    model, denoiser = copy.copy(prior), copy.copy(prior.denoiser)
    denoiser.net = copy.deepcopy(denoiser.net).to(torch.bfloat16).double()
    model.denoiser = denoiser
    return model


def quantum(level: float) -> float:
    """A power of two that is small against the noise level."""
    return float(np.exp2(np.floor(np.log2(level * _FINENESS))))


def _offset(shift: int) -> float:
    return 0.5 + shift / SHIFTS


def _border(scaled: Floats, shift: int) -> Floats:
    """The closest place where rounding jumps."""
    return np.rint(scaled + _offset(shift))


def _rounded(scaled: Floats, shift: int) -> Floats:
    return np.floor(scaled + _offset(shift)) - shift / SHIFTS
