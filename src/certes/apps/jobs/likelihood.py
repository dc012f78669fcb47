"""Bits per dimension of pictures under a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from certes import __version__
from certes.apps.console import progress
from certes.apps.experiment import centre
from certes.apps.outputs import all_or_nothing, named_pictures
from certes.data.files import write_json
from certes.data.pictures import Picture, read_picture
from certes.diffusion.likelihood import (
    Bound,
    FlowLikelihood,
    bound_times,
    flow_likelihood,
    variational_bound,
)
from certes.diffusion.process import Process
from certes.diffusion.reverse import Variance
from certes.errors import InputError, ModelError
from certes.evaluation.rate_distortion import rate_distortion_figure
from certes.networks.model import Model, load
from certes.networks.tiling import fitted

# Values that are evaluated at once; a dozen copies of them in float64 are held.
_AT_ONCE = 2**21
# Of the flow, whose network's activations are kept for a backward pass too: far fewer.
_AT_ONCE_WITH_GRADIENTS = 2**17
# Finer, and the rounding of a network in float32 would decide the steps.
_TOLERANCE = 1e-4
_LEVELS, _PROBES = 100, 4


@dataclass(frozen=True)
class Question:
    """What is asked; fields as the options of the command, None for their defaults."""

    model: str
    method: str
    variance: str | None
    steps: int | None
    levels: int | None
    probes: int | None
    crop: int | None
    seed: int
    device: str | None


def likelihood_of(inputs: Sequence[Path], question: Question, out: Path) -> dict[str, Any]:
    """Evaluate, write the results, and return what is in ``likelihood.json``.

    Raises: CertesError for a model that does not know what is asked, an option of the other method,
        or a picture that cannot be scored.
    """
    _check_options(question)
    pictures = [_read(path, question.crop) for path in named_pictures(inputs)]
    x0, names = _stacked(pictures), [picture.name for picture in pictures]
    if question.method == "flow":
        # Solvers see the rounding of bfloat16 as roughness, and crawl.
        model = load(question.model, question.device, dtype=torch.float32)
        result = _flow_report(model, _flow(model, x0, names, question), names, question)
        with all_or_nothing(out) as folder:
            write_json(folder / "likelihood.json", result)
        return result
    model = load(question.model, question.device)
    bounds = _bounds(model, x0, names, question)
    result = _report(model, bounds, names, question)
    with all_or_nothing(out) as folder:
        write_json(folder / "likelihood.json", result)
        what = names[0] if len(names) == 1 else f"{len(names)} pictures"
        title = f"{what} under {model.name}: bits per dimension"
        rate_distortion_figure(folder / "rate-distortion.png", bounds, title=title)
    return result


def known_variances(model: Model) -> list[Variance]:
    """Those that a model can say, the best last."""
    known: list[Variance] = ["large", "small"]
    if model.denoiser.net.config.out_channels > model.channels:
        known.append("learned")
    if model.denoiser.spectrum is not None:
        known.append("calibrated")
    return known


def _wanted(model: Model, variance: str | None) -> list[Variance]:
    known = known_variances(model)
    if variance is None:
        return known[-1:]
    if variance == "all":
        return known
    if variance not in known:
        raise ModelError(
            f"variance: {variance!r} is nothing that {model.name} knows; "
            f"give one of {', '.join(known)}, all"
        )
    return [variance]


def _bounds(
    model: Model, x0: Float[Tensor, "b c h w"], names: Sequence[str], question: Question
) -> list[Bound]:
    c, h, w = x0.shape[1:]
    network = model.denoiser
    with progress("evaluating", 1) as advance:
        bounds = variational_bound(
            _process(model),
            fitted(model, (c, h, w)),
            x0.to(model.device),
            bound_times(network.schedule, network.scale, question.steps),
            _wanted(model, question.variance),
            levels=question.levels or _LEVELS,
            seed=question.seed,
            keys=names,
            batch_size=max(1, _AT_ONCE // x0[0].numel()),
            advance=advance,
        )
    return list(bounds.values())


def _flow(
    model: Model, x0: Float[Tensor, "b c h w"], names: Sequence[str], question: Question
) -> FlowLikelihood:
    c, h, w = x0.shape[1:]
    with progress("evaluating", 1) as advance:
        return flow_likelihood(
            _process(model),
            fitted(model, (c, h, w)),
            x0.to(model.device),
            seed=question.seed,
            keys=names,
            probes=question.probes or _PROBES,
            tolerance=_TOLERANCE,
            batch_size=max(1, _AT_ONCE_WITH_GRADIENTS // x0[0].numel()),
            advance=advance,
        )


def _process(model: Model) -> Process:
    network = model.denoiser
    return Process(network.schedule, center=network.center, scale=network.scale)


def _report(
    model: Model, bounds: Sequence[Bound], names: Sequence[str], question: Question
) -> dict[str, Any]:
    runs = [*bounds[0].levels, bounds[0].decoder]
    return {
        **_said_of(model, names, question),
        "steps": sum(run.steps for run in runs),
        "calls": len(runs),
        "bounds": [bound.to_dict() for bound in bounds],
    }


def _flow_report(
    model: Model, flow: FlowLikelihood, names: Sequence[str], question: Question
) -> dict[str, Any]:
    return {
        **_said_of(model, names, question),
        "probes": len(flow.estimates[0]),
        "tolerance": _TOLERANCE,
        "calls": max(flow.evaluations),
        "flow": flow.to_dict(),
    }


def _said_of(model: Model, names: Sequence[str], question: Question) -> dict[str, Any]:
    return {
        "version": __version__,
        "method": question.method,
        "model": model.name,
        "model_hash": model.hash,
        "pictures": list(names),
        "crop": question.crop,
        "seed": question.seed,
    }


def _check_options(question: Question) -> None:
    others = ("variance", "steps", "levels") if question.method == "flow" else ("probes",)
    for name in others:
        if getattr(question, name) is not None:
            raise InputError(f"{name}: means nothing for --method {question.method}; leave it out")


def _read(path: Path, crop: int | None) -> Picture:
    picture = read_picture(path)
    if picture.dtype != "uint8":
        raise InputError(
            f"{path}: {picture.dtype} samples; bits are counted for 8-bit pictures: convert it"
        )
    return picture if crop is None else centre(picture, crop)


def _stacked(pictures: Sequence[Picture]) -> Float[Tensor, "b c h w"]:
    first = pictures[0]
    for picture in pictures:
        if picture.pixels.shape != first.pixels.shape:
            shapes = [" x ".join(map(str, p.pixels.shape)) for p in (first, picture)]
            raise InputError(
                f"inputs: {first.name} is {shapes[0]}, {picture.name} is {shapes[1]} (channels, "
                "height, width); give --crop, and grey and RGB pictures one kind at a time"
            )
    return torch.stack([picture.pixels for picture in pictures])
