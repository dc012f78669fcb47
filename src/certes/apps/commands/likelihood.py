"""certes likelihood."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from certes.apps import options
from certes.apps.console import number, say, show_json, show_table


class VarianceName(StrEnum):
    """Names of ``certes.diffusion.reverse.Variance``, and all of them that a model knows."""

    SMALL = "small"
    LARGE = "large"
    LEARNED = "learned"
    CALIBRATED = "calibrated"
    ALL = "all"


def likelihood(
    inputs: options.Inputs,
    out: options.Out,
    model: options.Model = "nuclei",
    variance: Annotated[
        VarianceName | None,
        typer.Option(
            "--variance",
            show_default="the best that the model knows",
            help="Of the reverse steps: small and large are DDPM's fixed ones, learned is what the "
            "network predicts, calibrated was measured.",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            min=2,
            show_default="the model's table, else 1000",
            help="Steps of the bound; more make it tighter.",
        ),
    ] = None,
    levels: Annotated[
        int,
        typer.Option(
            "--levels",
            min=1,
            help="Network calls for each picture, beside the last step's: each stands for some of "
            "the steps. As many as there are steps gives the paper's evaluation.",
        ),
    ] = 100,
    crop: Annotated[
        int | None,
        typer.Option(
            "--crop",
            min=8,
            show_default="whole pictures",
            help="Side of the centre part of each picture, in pixels.",
        ),
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
) -> None:
    """Bits per dimension of 8-bit pictures under a model: how well it knows their like.

    A bound from above (Ho et al. 2020): the rate up to the last noisy picture and what the picture
    then costs without loss. Writes likelihood.json, where every level and picture is listed, and
    rate-distortion.png. Alpha is not counted.
    """
    from certes.apps.jobs.likelihood import Question, likelihood_of

    wanted = None if variance is None else str(variance)
    question = Question(model, wanted, steps, levels, crop, seed, device)
    result = likelihood_of(inputs, question, out)
    if as_json:
        show_json(result)
        return
    show_table(
        ("variance", "bits/dim", "± s.e.", "rate", "last step", "RMSE, grey levels"),
        [_row(bound) for bound in result["bounds"]],
    )
    say(
        f"Pictures: {len(result['pictures'])}; network calls for each: {result['calls']}. "
        f"Every level is in {out / 'likelihood.json'}, the curve in {out / 'rate-distortion.png'}"
    )


def _row(bound: dict[str, Any]) -> tuple[str, ...]:
    return (
        bound["variance"],
        number(bound["bits_per_dimension"]),
        number(bound["standard_error"]),
        number(bound["rate"]),
        number(bound["distortion"]),
        number(bound["decoder"]["rmse"], 2),
    )
