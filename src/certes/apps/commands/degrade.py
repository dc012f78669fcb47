"""certes degrade."""

from __future__ import annotations

from typing import Annotated

import typer

from certes.apps import options
from certes.apps.console import say, show_json


def degrade(
    inputs: options.Inputs,
    task: options.Task,
    out: options.Out,
    noise: options.NoiseLevel = None,
    factor: options.Factor = None,
    kernel: options.Kernel = None,
    mask: options.Mask = None,
    missing: options.Missing = None,
    ratio: options.Ratio = None,
    quality: options.Quality = None,
    seed: options.Seed = 0,
    png: Annotated[
        bool,
        typer.Option(
            "--png",
            help="Write PNG with the input's bit depth instead: clips and rounds the noise.",
        ),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Make degraded copies of pictures, for trying a restoration out where the truth is known.

    Writes NAME.degraded.tif (float32, not clipped, so that the noise stays Gaussian), and for
    inpaint NAME.mask.png.
    """
    from certes.apps.jobs.degrade import degrade_pictures

    task_options = options.TaskOptions(task, factor, kernel, mask, missing, ratio, quality)
    result = degrade_pictures(inputs, task_options, noise, seed, out, png)
    if as_json:
        show_json(result)
    else:
        for entry in result["images"]:
            say("  ".join(str(out / name) for name in entry["files"]))
    if result["failures"]:
        raise typer.Exit(2)
