"""certes calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from certes.apps import options
from certes.apps.console import say, show_json


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
    rule: Annotated[
        options.RuleName,
        typer.Option("--rule", help="wsr (betting, narrowest) or hb (Hoeffding-Bentkus)."),
    ] = options.RuleName.WSR,
    family: Annotated[
        options.FamilyName,
        typer.Option("--family", help="Stretch intervals about the estimate, or widen them all."),
    ] = options.FamilyName.SCALE,
    crop: options.Crop = 128,
    samples: options.Samples = 16,
    steps: options.Steps = 20,
    sampler: options.Sampler = None,
    policy: options.Policy = None,
    colours: options.Colours = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
) -> None:
    """Calibrate intervals on true pictures: the card with which certes restore guarantees them.

    The pictures must be independent, like those to be restored, and must not have served to train
    or choose the model. A card holds for this model, task, noise, samples, steps and alpha only.
    A colour picture restored by a grey model counts as one group of three. A conditional model is
    given what its training made of pictures, or --conditions.
    """
    from certes.apps.jobs.calibrate import CardOptions, calibrate_model

    card = calibrate_model(
        options.Asked(task, factor, kernel, mask, missing, ratio, quality, noise, conditions),
        options.SamplingOptions(
            model, samples, steps, alpha, seed, sampler, device, colours, policy
        ),
        CardOptions(delta, str(rule), str(family)),
        data,
        crop,
        out,
    )
    if as_json:
        show_json(card.card())
    else:
        say(card.guarantee)
        say(f"Interval size (lambda) {card.size:.4g} from {card.n} units; the card is {out}")
