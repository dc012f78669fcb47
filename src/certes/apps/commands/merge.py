"""certes merge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from certes.apps import options
from certes.apps.commands.calibrate import show_made


def merge(
    parts: Annotated[
        list[Path],
        typer.Argument(
            metavar="PART", show_default=False, help="Files that certes calibrate --partial wrote."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="CARD", show_default=False, help="The card to write (JSON)."),
    ],
    alpha: options.Alpha = 0.1,
    delta: options.Delta = 0.1,
    rule: options.Rule = options.RuleName.WSR,
    tolerance: options.Tolerance = 0.1,
    seed: options.Seed = 0,
    as_json: options.Json = False,
) -> None:
    """Make one calibration card of parts that several workers measured.

    It is the card that one worker would have made of all pictures, whatever their order. Parts must
    be of the same model, task and settings, and of different pictures.
    """
    from certes.apps.jobs.calibrate import merge_parts

    card = merge_parts(parts, out, alpha, delta, str(rule), tolerance, seed)
    show_made(card, out, as_json)
