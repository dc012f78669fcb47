"""certes tune."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from certes.apps import options
from certes.apps.console import say, show_json


class HeadName(StrEnum):
    """Keys of ``certes.networks.heads.HEADS``, but for that of sampled bounds."""

    QUANTILES = "quantiles"
    GAUSSIAN = "gaussian"
    MAGNITUDE = "magnitude"
    SOFTMAX = "softmax"


class TuneTaskName(StrEnum):
    """Tasks that a model of pictures can be tuned to."""

    DENOISE = "denoise"
    SUPER_RESOLVE = "super-resolve"
    INPAINT = "inpaint"
    DEBLUR = "deblur"


def tune(
    start: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|PRESET",
            show_default=False,
            help="Where to start: a conditional model (N-Conffusion), any model of pictures, with "
            "--task (G-Conffusion), or a conditional preset of certes train: its network from "
            "random weights (ADM_UQ).",
        ),
    ],
    data: Annotated[
        Path,
        typer.Option(
            "--data", metavar="DIR", show_default=False, help="Training pictures, as certes train."
        ),
    ],
    out: options.Out,
    conditions: Annotated[
        Path | None,
        typer.Option(
            "--conditions", metavar="DIR", show_default=False, help="As for certes train."
        ),
    ] = None,
    task: Annotated[
        TuneTaskName | None,
        typer.Option("--task", show_default=False, help="What a model of pictures shall undo."),
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(
            "--noise",
            metavar="SIGMA",
            show_default="0.1 for denoise, else 0.02",
            help="Noise of what is measured, values in [0, 1].",
        ),
    ] = None,
    size: Annotated[
        float | None,
        typer.Option(
            "--size",
            show_default="4, 0.25, 2",
            help="super-resolve: the factor; inpaint: share of pixels in the hole; deblur: width "
            "of the Gaussian, pixels.",
        ),
    ] = None,
    head: Annotated[
        HeadName,
        typer.Option(
            "--head",
            help="What the network says: quantiles; mean and variance; estimate and size of its "
            "error; a histogram.",
        ),
    ] = HeadName.QUANTILES,
    sampled: Annotated[
        int | None,
        typer.Option(
            "--sampled",
            metavar="N",
            min=1,
            show_default=False,
            help="Learn from the sampled bounds of N patches in place of the truth (DM_SBA).",
        ),
    ] = None,
    alpha: options.Alpha = 0.1,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, show_default="1500, a preset's own", help="Of learning."),
    ] = None,
    resume: options.Resume = False,
    name: Annotated[
        str | None,
        typer.Option("--name", show_default="MODEL-bounds", help="The model's name on its card."),
    ] = None,
    licence: options.Licence = "unknown",
    as_json: options.Json = False,
) -> None:
    """Teach a diffusion model to answer with bounds in one network call (Conffusion).

    The result, in OUT/model, is given conditions: certes restore, calibrate, evaluate and verify
    take it as they take conditional models, and are hundreds of times faster than with samples.
    Its bounds are raw; certes calibrate, on other pictures, gives them their guarantee. On several
    GPUs or machines it is started as certes train is.
    """
    from certes.apps.jobs.tune import TuneOptions, tune_model

    result = tune_model(
        TuneOptions(
            start,
            None if task is None else str(task),
            noise,
            size,
            str(head),
            alpha,
            sampled,
            steps,
        ),
        data,
        conditions,
        out,
        resume,
        name,
        licence,
    )
    if result is None:
        return
    if as_json:
        show_json(result)
    else:
        say(
            f"{result['method']}: learned from {result['pictures']} pictures; the model is in "
            f"{result['folder']}"
        )
