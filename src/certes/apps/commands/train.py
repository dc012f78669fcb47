"""certes train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from certes.apps import options
from certes.apps.console import say, show_json


def train(
    preset: Annotated[
        str,
        typer.Argument(
            metavar="PRESET|CONFIG",
            show_default=False,
            help="nuclei, nuclei-large, cifar10-small, cifar10-fast, ddpm-cifar10, ddpm-256, "
            "tiny (a trial of a minute), or a JSON file.",
        ),
    ],
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="DIR",
            show_default=False,
            help="Folder of training pictures, all grey or all RGB.",
        ),
    ],
    out: options.Out,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")
    ] = False,
    name: Annotated[
        str | None,
        typer.Option("--name", show_default="the preset's", help="The model's name on its card."),
    ] = None,
    licence: Annotated[
        str,
        typer.Option("--licence", help="Licence of the training pictures, for the model's card."),
    ] = "unknown",
    as_json: options.Json = False,
) -> None:
    """Train a model on your own pictures.

    Writes checkpoints, logs (TensorBoard) and sample grids into --out, and the finished model with
    its measured residual spectrum into the folder OUT/model: certes restore --model OUT/model.
    A run that was stopped goes on with --resume as if it had never been.
    """
    from certes.apps.jobs.train import train_model

    result = train_model(preset, data, out, resume, name, licence)
    if as_json:
        show_json(result)
    else:
        say(f"Trained on {result['pictures']} pictures; the model is in {result['folder']}")
