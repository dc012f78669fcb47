"""certes interpolate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from certes.apps import chain_options, options
from certes.apps.console import say, show_json


def interpolate(
    first: Annotated[
        Path, typer.Argument(metavar="A", show_default=False, help="The picture to start from.")
    ],
    second: Annotated[
        Path,
        typer.Argument(
            metavar="B", show_default=False, help="The picture to end at, of the same size."
        ),
    ],
    out: options.Out,
    model: options.Model = "nuclei",
    level: chain_options.Levels = None,
    lambdas: Annotated[
        int,
        typer.Option(
            "--lambdas", min=2, max=101, help="Pictures from A to B, both reconstructions included."
        ),
    ] = 11,
    mixing: Annotated[
        chain_options.MixingName,
        typer.Option(
            "--mixing",
            help="How noise is mixed: linear, as in the paper, flattens the pictures between.",
        ),
    ] = chain_options.MixingName.VARIANCE_PRESERVING,
    solver: chain_options.Solver = chain_options.SolverName.DPM_SOLVER_2M,
    variance: chain_options.Variance = chain_options.VarianceName.SMALL,
    steps: options.Steps = 20,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
) -> None:
    """Go from one picture to another through pictures that the model believes in.

    Both get noise, are mixed, and are denoised; the more noise (--level), the more the model makes
    up. Writes level-L.lambda-K.png for level L (from the highest) and step K from A to B, and all
    of them, labelled, in interpolation.png. Without --level they are those after 0, 125, ..., 1000
    of DDPM's 1000 diffusion steps.
    """
    from certes.apps.jobs.interpolate import plan_interpolation, read_pair

    chain = chain_options.ChainOptions(model, solver, variance, steps, seed, device)
    job = plan_interpolation(chain, level, lambdas, mixing)
    pair = read_pair(first, second, job.generator.model.channels)
    result = job.run(*pair, out)
    if as_json:
        show_json(result)
    else:
        say(f"{len(result['files'])} files are in {out}; look at {out / result['files'][-1]}")
