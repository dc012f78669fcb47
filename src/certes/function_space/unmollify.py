r"""From the estimate of the blurred function back to the function.

``WienerFilter`` is the paper's: :math:`\hat x_k = g_k\, m_k / (g_k^2 + \epsilon^2)`, which knows
neither how sure the network is nor what pictures look like. ``SpectralFilter`` is the best linear
estimate of every cosine coefficient from both things that are known of it,

.. math:: \hat x_k = A_\rho(\omega)\, m_k + B_\rho(\omega)\, u_k,

the network's estimate :math:`m` of :math:`T x_0` and, where a solver walks in it, the noisy
function :math:`u = x_0 + \rho \xi` itself, of which the network was shown :math:`T u` only. The
gains are regressed on training pictures at each noise level and frequency, so that they know the
network's error. An exact conditional mean has :math:`A = 1 / g, B = 0`; an estimate of a Gaussian
field with an error of its own, white and of variance :math:`\tau^2`, has
:math:`A = g \lambda / (g^2 \lambda + \tau^2)`, the Wiener filter that knows both. Finer than the
training pixels nothing was measured: there the function is taken for a Gaussian field whose
spectrum goes on as a power law, of which :math:`\hat x_k = \lambda u_k / (\lambda + \rho^2)`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.bases import CosineBasis
from certes.errors import ModelError
from certes.function_space.mollifier import Mollifier, filtered, squared_frequencies

Picture = Float[Tensor, "b c h w"]
Scalars = Float[Tensor, " b"]

_BASIS = CosineBasis()

EPSILON = 0.05
"""The paper's inverse signal-to-noise ratio."""

_TABLES, _BEYOND = ("levels", "of_estimate", "of_seen", "of_blur"), "beyond"

_FARTHEST = 1e12  # of the numbers of a law; beyond it a file is damaged

FINEST = math.sqrt(2) * math.pi
"""The largest frequency of training pixels, on the diagonal."""


class Unmollifier(Protocol):
    """What turns estimates of blurred functions into estimates of functions; network units."""

    def __call__(
        self, mollified: Picture, seen: Picture | None, level: Scalars, pitch: float
    ) -> Picture:
        r"""Estimate :math:`z_0`.

        Args:
            mollified: the estimate of :math:`T z_0`.
            seen: :math:`z_0 + \rho \xi / p` as the solver has it; ``None`` if it has only its blur.
            level: :math:`\rho` of each.
            pitch: length of a pixel.
        """
        ...


@dataclass(frozen=True)
class WienerFilter:
    r"""The paper's filter, whose gain is at most :math:`1 / (2 \epsilon)`.

    Args:
        mollifier: what is undone.
        epsilon: regularisation.
    """

    mollifier: Mollifier
    epsilon: float = EPSILON

    def gain(self, shape: tuple[int, int], pitch: float = 1.0) -> Float[Tensor, "h w"]:
        """Of every cosine coefficient, float64."""
        symbol = self.mollifier.symbol(shape, pitch)
        return symbol / (symbol**2 + self.epsilon**2)

    def __call__(
        self, mollified: Picture, seen: Picture | None, level: Scalars, pitch: float
    ) -> Picture:
        return filtered(mollified, self.gain((mollified.shape[-2], mollified.shape[-1]), pitch))


@dataclass(frozen=True)
class PowerLaw:
    r""":math:`\lambda(\omega) = (\omega / \omega_0)^{-a} \lambda_0` beyond the training pixels.

    Args:
        power: :math:`\lambda_0`, of each channel, network units squared times area.
        exponent: :math:`a`.
        frequency: :math:`\omega_0`.

    Raises:
        ModelError: for numbers that are no such law's.
    """

    power: float
    exponent: float
    frequency: float

    def __post_init__(self) -> None:
        known = (self.power, abs(self.exponent), self.frequency)
        if not (max(known) < _FARTHEST and self.power >= 0 and self.frequency > 1 / _FARTHEST):
            raise ModelError(
                f"filter: power, exponent, frequency = {self.power}, {self.exponent}, "
                f"{self.frequency}; give numbers below {_FARTHEST:g}, the first and last positive"
            )

    def __call__(self, squared: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
        """The spectrum at squared frequencies."""
        ratio = (squared / self.frequency**2).clamp(min=1.0)
        return self.power * ratio ** (-self.exponent / 2)


@dataclass(frozen=True)
class SpectralFilter:
    """The measured filter; see the module.

    Args:
        levels: noise levels, increasing, network units, shape (L,).
        of_estimate: A at each level and frequency, shape (L, F); frequencies are evenly spaced from
            0 to :data:`FINEST`.
        of_seen: B, likewise.
        of_blur: A where only the blur is known, likewise.
        beyond: the spectrum beyond the training pixels.

    Raises:
        ModelError: if the shapes do not fit.
    """

    levels: Float[Tensor, " l"]
    of_estimate: Float[Tensor, "l f"]
    of_seen: Float[Tensor, "l f"]
    of_blur: Float[Tensor, "l f"]
    beyond: PowerLaw

    def __post_init__(self) -> None:
        shapes = {tuple(table.shape) for table in (self.of_estimate, self.of_seen, self.of_blur)}
        if len(shapes) != 1 or next(iter(shapes))[0] != len(self.levels):
            raise ModelError(
                f"filter: {len(self.levels)} levels with gains of shapes {sorted(shapes)}; "
                "give (L,) and (L, F)"
            )

    def __call__(
        self, mollified: Picture, seen: Picture | None, level: Scalars, pitch: float
    ) -> Picture:
        squared = squared_frequencies((mollified.shape[-2], mollified.shape[-1]), pitch)
        level = level.double().cpu()  # where the tables are
        fine = squared > FINEST**2
        table = self.of_blur if seen is None else self.of_estimate
        gain = self._at(table, squared, level).masked_fill(fine, 0.0)
        coefficients = _BASIS.forward(mollified) * gain.to(mollified)
        if seen is not None:
            prior = self.beyond(squared)
            own = prior / (prior + level[:, None, None, None] ** 2)
            share = torch.where(fine, own, self._at(self.of_seen, squared, level))
            coefficients = coefficients + _BASIS.forward(seen) * share.to(seen)
        return _BASIS.inverse(coefficients)

    def to_tensors(self) -> dict[str, Tensor]:
        """What :func:`filter_from_tensors` reads."""
        beyond = (self.beyond.power, self.beyond.exponent, self.beyond.frequency)
        return {
            **{name: getattr(self, name) for name in _TABLES},
            _BEYOND: torch.tensor(beyond, dtype=torch.float64),
        }

    def _at(
        self, table: Float[Tensor, "l f"], squared: Float[Tensor, "h w"], level: Scalars
    ) -> Float[Tensor, "b 1 h w"]:
        """Interpolated between levels (their logarithms) and frequencies."""
        logs = self.levels.double().log()
        position = level.log().clamp(logs[0], logs[-1])
        upper = torch.searchsorted(logs, position).clamp(1, len(logs) - 1)
        share = ((position - logs[upper - 1]) / (logs[upper] - logs[upper - 1]))[:, None]
        row = (1 - share) * table.double()[upper - 1] + share * table.double()[upper]
        last = table.shape[1] - 1
        place = (squared.sqrt() * (last / FINEST)).clamp(max=last)
        low = place.floor().long().clamp(max=last - 1)
        between = place - low
        return ((1 - between) * row[:, low] + between * row[:, low + 1])[:, None]


def filter_from_tensors(tensors: Mapping[str, Tensor]) -> SpectralFilter:
    """The filter that :meth:`SpectralFilter.to_tensors` described.

    Raises:
        ModelError: if it is none.
    """
    if set(tensors) != {*_TABLES, _BEYOND}:
        raise ModelError(f"filter: holds {', '.join(sorted(tensors))}; that is no measured filter")
    power, exponent, frequency = (float(value) for value in tensors[_BEYOND])
    levels, of_estimate, of_seen, of_blur = (tensors[name] for name in _TABLES)
    beyond = PowerLaw(power, exponent, frequency)
    return SpectralFilter(levels, of_estimate, of_seen, of_blur, beyond)
