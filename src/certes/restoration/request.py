"""What a user asks of a restoration, checked once, before any work."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from certes.errors import CertesWarning, InputError
from certes.intervals.bounds import Provenance
from certes.restoration.covariances import COVARIANCES
from certes.restoration.deepinv import Physics, adopted
from certes.restoration.measurement import Measurement
from certes.restoration.noise_model import NoiseEstimate, SignalNoise, noise_map
from certes.restoration.operators.base import LinearOperator, Operator, as_tensor
from certes.restoration.operators.pixelwise import Pixelwise
from certes.restoration.samplers import SAMPLERS, Method, default_sampler

# Of the noise: a signal smaller than this share of it is hardly seen at all; and how many values
# it takes to say so.
_DROWNED, _MANY = 0.25, 64

Noise = float | Tensor | NoiseEstimate | SignalNoise
"""Standard deviation of the noise of measurements, image units: one number for all, one for each,
one for every measured value, an estimate with its own error, or a law of how it grows with the
signal (Poisson-Gaussian)."""


@dataclass(frozen=True)
class Request:
    """Measurements and how they shall be answered.

    Args:
        y: measurements, finite, zeros where nothing was measured.
        operators: one for each of them.
        noise: standard deviation of each, image units; one number, or one for every value of it.
        deviation: the standard error of each of these numbers; 0 where they are known.
        sampler: a key of the table of samplers.
        manner: the sampler with all that makes its answers different, in words.
    """

    y: Float[Tensor, " b *out"]
    operators: Sequence[Operator]
    noise: Float[Tensor, " b *out"]
    deviation: Float[Tensor, " b"]
    sampler: str
    manner: str

    @property
    def method(self) -> Method:
        """The sampler."""
        return SAMPLERS[self.sampler]

    def part(self, indices: list[int], device: torch.device) -> Measurement:
        """Some of the measurements, all of one operator, where they will be computed with."""
        y, noise = self.y[indices].to(device), self.noise[indices].to(device)
        return Measurement(self.operators[indices[0]], y, noise)


def checked(
    y: Tensor | npt.NDArray[Any],
    operator: Operator | Sequence[Operator] | Physics,
    noise: Noise,
    sampler: str | None,
    covariance: str,
    faithful: bool,
) -> Request:
    """The request, if it makes sense.

    Raises:
        InputError: if it makes none.
    """
    y, operator = adopted(y, operator)
    y = as_tensor(y)
    operators = _one_each(operator, y)
    levels, deviation = _checked_noise(noise, y)
    name = _checked_sampler(sampler, operators, mapped=levels.ndim > 1)
    if covariance not in COVARIANCES:
        raise InputError(f"covariance: {covariance!r}; give one of {', '.join(COVARIANCES)}")
    if faithful and name != "ddrm":
        raise InputError("faithful: only sampler='ddrm' has an official version to be faithful to")
    y = torch.cat([H.observed(row[None]) for H, row in zip(operators, y, strict=True)])
    if not bool(torch.isfinite(y).all()):
        raise InputError("y: empty, or not finite; remove NaN and infinite values (or mask them)")
    _warn_of_drowned(y, levels)
    manner = name + "-faithful" * faithful
    if covariance != "model":
        manner = f"{manner}/{covariance}"
    return Request(y, operators, levels, deviation, name, manner)


def _one_each(operator: Operator | Sequence[Operator], y: Tensor) -> Sequence[Operator]:
    if len(y) == 0:
        raise InputError("y: empty, or not finite; remove NaN and infinite values (or mask them)")
    if isinstance(operator, Operator):
        operator.observed(y[:1])  # says what is wrong with the shape
        return [operator] * len(y)
    shapes = {H.in_shape for H in operator}
    if len(operator) != len(y) or len(shapes) != 1:
        raise InputError(
            f"operator: {len(operator)} for {len(y)} measurements, of pictures {sorted(shapes)}; "
            "give one, or one for each measurement, all for pictures of one shape"
        )
    return operator


def _checked_sampler(sampler: str | None, operators: Sequence[Operator], mapped: bool) -> str:
    if sampler is not None and sampler not in SAMPLERS:
        raise InputError(f"sampler: {sampler!r}; give one of {', '.join(SAMPLERS)}")
    mixed = mapped and not all(isinstance(H, Pixelwise) for H in operators)
    if mixed and not all(isinstance(H, LinearOperator) for H in operators):
        raise InputError(
            "noise: one number for every value, of a measurement that is not linear; give one "
            "number for each picture"
        )
    names = {"conditional" if mixed else default_sampler(H) for H in operators}
    if mixed and sampler not in (None, "conditional"):
        raise InputError(
            f"noise: one number for every value, which sampler {sampler!r} takes for denoise and "
            "inpaint only; give sampler='conditional'"
        )
    if sampler is None and len(names) > 1:
        raise InputError(
            f"operator: of kinds that different samplers suit ({', '.join(sorted(names))}); "
            "say which with sampler="
        )
    name = sampler or names.pop()
    wrong = [H for H in operators if not isinstance(H, SAMPLERS[name].takes)]
    if wrong:
        raise InputError(
            f"sampler: {name!r} does not work with {wrong[0].name!r}, which is no "
            f"{SAMPLERS[name].takes.__name__}; give sampler={default_sampler(wrong[0])!r}"
        )
    return name


def _checked_noise(noise: Noise, y: Tensor) -> tuple[Float[Tensor, " b *out"], Float[Tensor, " b"]]:
    """Levels and their standard errors."""
    known = y.new_zeros(len(y))
    if isinstance(noise, SignalNoise):
        return noise_map(noise, y), known
    if isinstance(noise, NoiseEstimate):
        return _levels(noise.level, y), _levels(noise.deviation, y)
    # Not every caller is checked for types, and "auto" is what the command line says.
    if not isinstance(noise, int | float | Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(
            f"noise: {noise!r}; give a number, image units; certes.restoration.measure_noise(y) "
            "finds one"
        )
    return _levels(noise, y), known


def _warn_of_drowned(y: Tensor, levels: Tensor) -> None:
    """Say so where the noise leaves next to nothing of the signal."""
    for row, noise in zip(y, levels, strict=True):
        seen = row[row != 0]  # what was not measured is zero
        if len(seen) < _MANY:
            continue
        variance, level = float(seen.var(correction=0)), float(noise.square().mean().sqrt())
        signal = max(variance - level**2, 0.0) ** 0.5
        if signal < _DROWNED * level:
            warnings.warn(
                f"noise: {level:.3g} is far larger than the signal ({signal:.2g}): the answer is "
                "the model's own, with intervals as wide as they must be",
                CertesWarning,
                stacklevel=4,
            )


def _levels(noise: float | Tensor, y: Tensor) -> Float[Tensor, " b *out"]:
    levels = torch.as_tensor(noise, dtype=y.dtype)
    if levels.shape != y.shape and (levels.ndim > 1 or levels.numel() not in (1, len(y))):
        raise InputError(
            f"noise: shape {tuple(levels.shape)}; give one number, one for each of the {len(y)} "
            f"measurements, or one for every value, {tuple(y.shape)}"
        )
    if levels.shape != y.shape:
        levels = levels.expand(len(y))
    if not bool(torch.isfinite(levels).all()) or float(levels.min()) < 0:
        raise InputError(f"noise: {noise}; give a standard deviation of 0 or more, image units")
    return levels


def typical_level(noise: Noise) -> float:
    """One number for reports, image units: the mean, or that of mid-grey."""
    if isinstance(noise, SignalNoise):
        return (noise.gain / 2 + noise.read**2) ** 0.5
    level = noise.level if isinstance(noise, NoiseEstimate) else noise
    return float(torch.as_tensor(level, dtype=torch.float64).mean())


def provenance_of(request: Request, prior: str) -> Provenance:
    """What makes the answers, as calibration cards have it; steps and samples are still to come.

    Args:
        request: what was asked.
        prior: who answers.
    """
    labels = {operator_label(H) for H in request.operators}
    label = labels.pop() if len(labels) == 1 else "several operators"
    levels = request.noise
    same = bool((levels == levels.flatten()[0]).all()) and not bool(request.deviation.any())
    noise = round(float(levels.flatten()[0]), 6) if same else None
    return Provenance(prior, label, noise, request.manner)


def operator_label(operator: Operator) -> str:
    """The operator in words: its parameters but not the picture's size, shares to the percent."""
    parameters = {k: v for k, v in operator.describe().items() if k not in ("name", "shape")}
    if "known" in parameters:
        parameters["known"] = round(parameters["known"], 2)
    return (
        f"{operator.name} {json.dumps(parameters, sort_keys=True)}" if parameters else operator.name
    )
