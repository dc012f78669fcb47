"""certes calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from certes.apps import options
from certes.apps.commands.batch import Address
from certes.apps.console import say, show_json
from certes.errors import InputError

if TYPE_CHECKING:
    from certes.intervals.cards import Calibration
    from certes.intervals.tally import Tally


def calibrate(
    data: options.Data,
    out: Annotated[
        Path,
        typer.Option("--out", metavar="CARD", show_default=False, help="The card to write (JSON)."),
    ],
    model: options.Model = "nuclei",
    task: options.AskedTask = None,
    conditions: options.Conditions = None,
    noise: options.NoiseLevel = None,
    factor: options.Factor = None,
    kernel: options.Kernel = None,
    mask: options.Mask = None,
    missing: options.Missing = None,
    ratio: options.Ratio = None,
    quality: options.Quality = None,
    alpha: options.Alpha = 0.1,
    delta: options.Delta = 0.1,
    rule: options.Rule = options.RuleName.WSR,
    tolerance: options.Tolerance = 0.1,
    family: Annotated[
        options.FamilyName,
        typer.Option(
            "--family",
            help="Stretch intervals about the estimate (scale; std: alike on both sides), widen "
            "them all by as much (additive), or as published code does (ratio).",
        ),
    ] = options.FamilyName.SCALE,
    shape: Annotated[
        options.ShapeName | None,
        typer.Option(
            "--shape",
            show_default="one lambda for all",
            help="Different lambdas below and above the estimate (sides), or for narrow and wide "
            "pixels (strata).",
        ),
    ] = None,
    partial: Annotated[
        bool,
        typer.Option(
            "--partial",
            help="Write no card but a part of a calibration, for certes merge. Give each part "
            "pictures and a --seed of its own.",
        ),
    ] = False,
    crop: options.Crop = 128,
    samples: options.Samples = 16,
    steps: options.Steps = 20,
    sampler: options.Sampler = None,
    policy: options.Policy = None,
    colours: options.Colours = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            show_default="this process alone",
            help="Measure on so many processes, each on one thread; the card is the same.",
        ),
    ] = None,
    address: Address = None,
    as_json: options.Json = False,
) -> None:
    """Calibrate intervals on true pictures: the card with which certes restore guarantees them.

    The pictures must be independent, like those to be restored, and must not have served to train
    or choose the model. A card holds for this model, task, noise, samples, steps and alpha only.
    A conditional model is given what its training made of pictures, or --conditions.
    """
    from certes.apps.jobs.calibrate import CardOptions, Hands, calibrate_model

    if address is not None and workers is None:
        raise InputError("address: say how many of that cluster's --workers are to measure")

    made = calibrate_model(
        options.Asked(task, factor, kernel, mask, missing, ratio, quality, noise, conditions),
        options.SamplingOptions(
            model, samples, steps, alpha, seed, sampler, device, colours, policy
        ),
        CardOptions(delta, str(rule), str(family), shape and str(shape), tolerance, partial),
        data,
        crop,
        out,
        None if workers is None else Hands(workers, address),
    )
    show_made(made, out, as_json)


def show_made(made: Calibration | Tally, out: Path, as_json: bool) -> None:
    """Say what was written."""
    from certes.intervals.cards import Calibration

    if not isinstance(made, Calibration):
        if as_json:
            show_json({"images": made.images, "exact": made.exact, "tally": str(out)})
        else:
            say(f"{made.images} pictures; their part of a calibration is {out}: certes merge")
    elif as_json:
        show_json(made.card())
    else:
        say(made.guarantee)
        say(f"Interval size (lambda) {made.size:.4g} from {made.n} units; the card is {out}")
