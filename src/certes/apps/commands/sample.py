"""certes sample."""

from __future__ import annotations

from typing import Annotated

import typer

from certes.apps import options
from certes.apps.console import say, show_json


def sample(
    out: options.Out,
    model: options.Model = "nuclei",
    count: Annotated[
        int, typer.Option("-n", "--count", min=1, help="How many pictures to draw.")
    ] = 16,
    size: Annotated[
        int | None,
        typer.Option(
            "--size", min=8, show_default="the model's", help="Side of the pictures, in pixels."
        ),
    ] = None,
    steps: options.Steps = 20,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
) -> None:
    """Draw pictures from a model, to see what it has learned.

    Writes sample-000.png and so on, and all of them side by side in samples.png. Picture i depends
    on the seed and i alone, not on how many are drawn.
    """
    from certes.apps.jobs.sample import sample_model

    result = sample_model(model, count, size, steps, seed, device, out)
    if as_json:
        show_json(result)
    else:
        say(f"{count} samples are in {out}, all of them in {out / 'samples.png'}")
