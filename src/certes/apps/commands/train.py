"""certes train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from certes.apps import options
from certes.apps.console import say, show_json

CONDITIONAL_TASKS = (
    "edges",
    "super-resolve",
    "inpaint",
    "labels",
    "denoise",
    "celebahq-inpaint",
    "celebahq-super-resolve",
    "edges2shoes",
)
QUICK_TASKS = tuple(
    f"{kind}-{task}"
    for kind in ("nuclei", "photos")
    for task in ("denoise", "super-resolve", "inpaint", "deblur")
)
ESTIMATORS = ("cde", "cdiffe", "cmde", "vs-cmde")


def train(
    preset: Annotated[
        str,
        typer.Argument(
            metavar="PRESET|CONFIG",
            show_default=False,
            help="Of pictures: nuclei, nuclei-large, cifar10-small, cifar10-fast, ddpm-cifar10, "
            "ddpm-256, tiny (a trial of a minute). Of functions, for pictures of any resolution: "
            "nuclei-functions, nuclei-functions-large (for a GPU), tiny-functions. "
            f"Conditional: TASK-ESTIMATOR, with the tasks {', '.join(CONDITIONAL_TASKS)} and the "
            f"estimators {', '.join(ESTIMATORS)}, as edges-cmde; {', '.join(QUICK_TASKS)} (for one "
            "CPU core); tiny-conditional. Or a JSON file.",
        ),
    ],
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="DIR",
            show_default=False,
            help="Folder of training pictures, all grey or all RGB; or of sheets (train-00.webp, "
            "..., train-labels.npy); or, of pairs without --conditions, of pictures whose left "
            "half is the condition.",
        ),
    ],
    out: options.Out,
    conditions: Annotated[
        Path | None,
        typer.Option(
            "--conditions",
            metavar="DIR",
            show_default=False,
            help="labels, pairs: a picture of the same name for each in --data (labels: that "
            "numbers the objects, 0 is background).",
        ),
    ] = None,
    resume: options.Resume = False,
    name: Annotated[
        str | None,
        typer.Option("--name", show_default="the preset's", help="The model's name on its card."),
    ] = None,
    licence: options.Licence = "unknown",
    as_json: options.Json = False,
) -> None:
    """Train a model on your own pictures.

    Writes checkpoints, logs (TensorBoard) and sample grids into --out, and the finished model with
    its measured residual spectrum into the folder OUT/model: certes restore --model OUT/model.
    Conditional models learn one task, whose conditions are made from the pictures or come with
    them, and need no spectrum. Models of functions see a quarter of each picture's pixels in a
    step; their card says how much their answers depend on the resolution.

    A run that was stopped goes on with --resume as if it had never been.

    Several GPUs, or several processes of a CPU, share every batch when they are started together:
    torchrun --nproc_per_node 4 -m certes train ... (GPUs also by accelerate launch -m certes train
    ...). Each holds all pictures in memory. The result is that of one, up to rounding and dropout,
    and either goes on with --resume from what the other has left; several machines need an --out
    that all can see.
    """
    from certes.apps.jobs.train import train_model

    result = train_model(preset, data, conditions, out, resume, name, licence)
    if result is None:
        return
    if as_json:
        show_json(result)
    else:
        say(f"Trained on {result['pictures']} pictures; the model is in {result['folder']}")
