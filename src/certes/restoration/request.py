"""What a user asks of a restoration, checked once, before any work."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.errors import InputError
from certes.intervals.bounds import Provenance
from certes.networks.model import Model
from certes.restoration.covariances import COVARIANCES
from certes.restoration.operators.base import Operator, as_tensor
from certes.restoration.samplers import SAMPLERS, Method, default_sampler


@dataclass(frozen=True)
class Request:
    """Measurements and how they shall be answered.

    Args:
        y: measurements, finite, zeros where nothing was measured.
        operators: one for each of them.
        noise: standard deviation of each, image units.
        sampler: a key of the table of samplers.
        manner: the sampler with all that makes its answers different, in words.
    """

    y: Float[Tensor, " b *out"]
    operators: Sequence[Operator]
    noise: Float[Tensor, " b"]
    sampler: str
    manner: str

    @property
    def method(self) -> Method:
        """The sampler."""
        return SAMPLERS[self.sampler]


def checked(
    y: Tensor | npt.NDArray[Any],
    operator: Operator | Sequence[Operator],
    noise: float | Tensor,
    sampler: str | None,
    covariance: str,
    faithful: bool,
) -> Request:
    """The request, if it makes sense.

    Raises:
        InputError: if it makes none.
    """
    y = as_tensor(y)
    operators = _one_each(operator, y)
    name = _checked_sampler(sampler, operators)
    if covariance not in COVARIANCES:
        raise InputError(f"covariance: {covariance!r}; give one of {', '.join(COVARIANCES)}")
    if faithful and name != "ddrm":
        raise InputError("faithful: only sampler='ddrm' has an official version to be faithful to")
    y = torch.cat([H.observed(row[None]) for H, row in zip(operators, y, strict=True)])
    if not bool(torch.isfinite(y).all()):
        raise InputError("y: empty, or not finite; remove NaN and infinite values (or mask them)")
    manner = name + "-faithful" * faithful
    if covariance != "model":
        manner = f"{manner}/{covariance}"
    return Request(y, operators, _checked_noise(noise, y), name, manner)


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


def _checked_sampler(sampler: str | None, operators: Sequence[Operator]) -> str:
    if sampler is not None and sampler not in SAMPLERS:
        raise InputError(f"sampler: {sampler!r}; give one of {', '.join(SAMPLERS)}")
    names = {default_sampler(H) for H in operators}
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


def _checked_noise(noise: float | Tensor, y: Tensor) -> Float[Tensor, " b"]:
    # Not every caller is checked for types, and "auto" is what the command line says.
    if not isinstance(noise, int | float | Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(
            f"noise: {noise!r}; give a number, image units; certes.restoration.estimate_noise(y) "
            "finds one"
        )
    levels = torch.as_tensor(noise, dtype=y.dtype)
    if levels.ndim > 1 or levels.numel() not in (1, len(y)):
        raise InputError(
            f"noise: shape {tuple(levels.shape)}; give one number, or one for each of the "
            f"{len(y)} measurements"
        )
    levels = levels.expand(len(y))
    if not bool(torch.isfinite(levels).all()) or float(levels.min()) < 0:
        raise InputError(f"noise: {noise}; give a standard deviation of 0 or more, image units")
    return levels


def provenance_of(request: Request, prior: Denoiser) -> Provenance:
    """What makes the answers, as calibration cards have it; steps and samples are still to come."""
    model = prior.hash if isinstance(prior, Model) else type(prior).__name__
    labels = {operator_label(H) for H in request.operators}
    label = labels.pop() if len(labels) == 1 else "several operators"
    levels = request.noise
    same = bool((levels == levels[0]).all())
    noise = round(float(levels[0]), 6) if same else None
    return Provenance(model, label, noise, request.manner)


def operator_label(operator: Operator) -> str:
    """The operator in words: its parameters but not the picture's size, shares to the percent."""
    parameters = {k: v for k, v in operator.describe().items() if k not in ("name", "shape")}
    if "known" in parameters:
        parameters["known"] = round(parameters["known"], 2)
    return (
        f"{operator.name} {json.dumps(parameters, sort_keys=True)}" if parameters else operator.name
    )
