"""certes sample."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from certes.apps import chain_options, options
from certes.apps.console import say, show_json
from certes.errors import InputError


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
    progressive: Annotated[
        bool,
        typer.Option(
            "--progressive",
            help="Also show what the model takes each picture for while it is still noise.",
        ),
    ] = False,
    variations: Annotated[
        bool,
        typer.Option(
            "--variations",
            help="Instead, split one chain at each --level and draw its rest -n times anew.",
        ),
    ] = False,
    level: chain_options.Levels = None,
    solver: chain_options.Solver = chain_options.SolverName.DPM_SOLVER_2M_SDE,
    variance: chain_options.Variance = chain_options.VarianceName.SMALL,
    steps: options.Steps = 20,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
) -> None:
    """Draw pictures from a model, to see what it has learned.

    Writes sample-000.png and so on, and all of them side by side in samples.png. Picture i depends
    on the seed and i alone, not on how many are drawn. --progressive adds progressive.png, and its
    frames one by one. --variations writes variations.png and its pictures; without --level the
    chain is split after 1000, 750, 500 and 250 of DDPM's 1000 diffusion steps.
    """
    from certes.apps.jobs.sample import sample_model, vary_model

    _check(progressive, variations, level)
    chain = chain_options.ChainOptions(model, solver, variance, steps, seed, device)
    if variations:
        result = vary_model(chain, count, size, level, out)
    else:
        result = sample_model(chain, count, size, progressive, out)
    if as_json:
        show_json(result)
    else:
        say(f"{len(result['files'])} files are in {out}; look at {out / result['files'][-1]}")


def _check(progressive: bool, variations: bool, level: Any) -> None:
    if progressive and variations:
        raise InputError("progressive, variations: two ways to draw; give one of them")
    if level and not variations:
        raise InputError("level: only --variations splits the chain; give that too, or no --level")
