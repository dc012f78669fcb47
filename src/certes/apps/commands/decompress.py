"""certes decompress."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from certes.apps import options
from certes.apps.console import number, say, show_json


class Reconstruction(StrEnum):
    """Values of ``certes.generation.codec.Reconstruction``."""

    ESTIMATE = "estimate"
    SAMPLE = "sample"
    ODE = "ode"


def decompress(
    stream: Annotated[
        Path,
        typer.Argument(
            metavar="IN.crt", show_default=False, help="From certes compress, whole or cut."
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", show_default=False, help="The picture to write: .png, .tif."),
    ],
    model: options.Model = "nuclei",
    reconstruction: Annotated[
        Reconstruction,
        typer.Option(
            "--as",
            help="estimate has the least error; sample and ode have the texture that was not sent.",
        ),
    ] = Reconstruction.ESTIMATE,
    samples: Annotated[
        int,
        typer.Option(
            "--samples",
            min=0,
            help="Also draw this many pictures that fit what was received, and write intervals.",
        ),
    ] = 0,
    steps: options.Steps = 20,
    alpha: options.Alpha = 0.1,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
) -> None:
    """Decompress a picture, or what is there of it.

    With --samples also writes OUT.intervals.tif (float32 pages: lower, estimate, upper) and
    OUT.panel.png: what the stream leaves open, pixel by pixel.
    """
    from certes.apps.jobs.codec import Drawing, decompress_picture

    drawing = Drawing(reconstruction.value, samples, steps, alpha, seed)
    result = decompress_picture(stream, out, model, drawing, device)
    if as_json:
        show_json(result)
    else:
        _show(result, out)


def _show(result: dict[str, Any], out: Path) -> None:
    if not result["complete"]:
        say(f"The file is cut: {result['steps']} of {result['steps_sent']} steps were read.")
    if result["exact"]:
        say(f"The picture that was sent, bit by bit: {out}")
        return
    level = "nothing is known" if result["level"] is None else f"{number(result['level'], 4)}"
    say(f"Written: {out} (what was received is the picture under noise of {level})")
    if result["mean_width"] is not None:
        width = number(result["mean_width"])
        say(f"Mean interval width: {width}. The intervals are not calibrated: no guarantee.")
