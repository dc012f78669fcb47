"""certes likelihood."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from certes.apps import options
from certes.apps.console import number, say, show_json, show_table


class Method(StrEnum):
    """How a likelihood is found."""

    BOUND = "bound"
    FLOW = "flow"


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
    method: Annotated[
        Method,
        typer.Option(
            "--method",
            help="bound: from above, step by step. flow: the density itself, along the probability "
            "flow, of pictures with uniform noise that fills their grey levels.",
        ),
    ] = Method.BOUND,
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
        int | None,
        typer.Option(
            "--levels",
            min=1,
            show_default="100",
            help="Network calls for each picture, beside the last step's: each stands for some of "
            "the steps. As many as there are steps gives the paper's evaluation.",
        ),
    ] = None,
    probes: Annotated[
        int | None,
        typer.Option(
            "--probes",
            min=1,
            show_default="4",
            help="Of the flow's divergence; two or more tell how exact it is.",
        ),
    ] = None,
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

    With --method flow, the density along the probability flow (Song et al. 2021), in
    likelihood.json alone.
    """
    from certes.apps.jobs.likelihood import Question, likelihood_of

    wanted = None if variance is None else str(variance)
    question = Question(model, str(method), wanted, steps, levels, probes, crop, seed, device)
    result = likelihood_of(inputs, question, out)
    if as_json:
        show_json(result)
        return
    calls = f"Pictures: {len(result['pictures'])}; network calls for each: {result['calls']}. "
    if method == Method.FLOW:
        show_table(("method", "bits/dim", "± s.e.", "± s.e., probes"), [_flow_row(result["flow"])])
        say(f"{calls}Every picture is in {out / 'likelihood.json'}")
        return
    show_table(
        ("variance", "bits/dim", "± s.e.", "rate", "last step", "RMSE, grey levels"),
        [_row(bound) for bound in result["bounds"]],
    )
    say(
        f"{calls}Every level is in {out / 'likelihood.json'}, the curve in "
        f"{out / 'rate-distortion.png'}"
    )


def _flow_row(flow: dict[str, Any]) -> tuple[str, ...]:
    values = ("bits_per_dimension", "standard_error", "probe_error")
    return ("flow", *(number(flow[name]) for name in values))


def _row(bound: dict[str, Any]) -> tuple[str, ...]:
    return (
        bound["variance"],
        number(bound["bits_per_dimension"]),
        number(bound["standard_error"]),
        number(bound["rate"]),
        number(bound["distortion"]),
        number(bound["decoder"]["rmse"], 2),
    )
