"""certes verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from certes.apps import options
from certes.apps.console import say, show_json, show_table
from certes.errors import InputError


def verify(
    card: Annotated[
        Path | None,
        typer.Argument(metavar="CARD", show_default=False, help="The card to check on --data."),
    ] = None,
    synthetic: Annotated[
        bool,
        typer.Option("--synthetic", help="Check the procedure itself, where the risk is known."),
    ] = False,
    trials: Annotated[
        int,
        typer.Option("--trials", min=1, help="Fresh calibrations a row; 300 at least to tell."),
    ] = 1000,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            show_default=False,
            help="Folder of true pictures that served neither training nor calibration.",
        ),
    ] = None,
    model: options.Model = "nuclei",
    conditions: options.Conditions = None,
    crop: options.Crop = 128,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
) -> None:
    """Check that the guarantee holds. Exit code 0 if it does, 2 if not.

    With a card: degrade and restore held-out pictures as for the card, and compare the risk with
    its promise. With --synthetic: repeat fresh calibrations on synthetic images and count how often
    the true risk exceeds alpha; unsound procedures, added on purpose, must be rejected.
    """
    if synthetic == (card is not None):
        raise InputError("card: give a calibration card to check, or --synthetic, and not both")
    if card is None:
        result = _synthetic(trials, seed, as_json)
    else:
        held_out = options.HeldOutOptions(model, crop, seed, device, conditions)
        result = _held_out(card, data, held_out, as_json)
    if as_json:
        show_json(result)
    if not result["holds"]:
        raise typer.Exit(2)


def _synthetic(trials: int, seed: int, quiet: bool) -> dict[str, Any]:
    from certes.apps.jobs.verify import verify_rules

    result = verify_rules(trials, seed)
    if not quiet:
        columns = ("images", "family", "procedure", "n", "found", "at most", "95 % interval", "")
        show_table(columns, [_row(row) for row in result["rows"]], words=3)
        say(
            f"{trials} fresh calibrations a row, alpha = delta = 0.1. Found: calibrations whose "
            "risk exceeds alpha; for rules that promise no more than an average, the mean risk. "
            "Rows marked * are unsound on purpose and must be rejected."
        )
        say("All as it must be." if result["holds"] else "NOT as it must be: see the rows above.")
    return result


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    found, limit, spread = f"{row['failures']}", f"{row['threshold']:.0f}", ""
    if row["on_average"] and row["mean"] is not None:
        found, limit = f"{row['mean']:.4f}", f"{row['threshold']:.4f}"
    if row["interval"] is not None:
        low, high = row["interval"]
        spread = f"{low:.3f}-{high:.3f}"
    if row["verdict"] == "refuses":
        found, limit = "", f"n >= {row['needed']}"
    return (
        row["population"],
        row["family"],
        row["procedure"] + (" *" if row["control"] else ""),
        str(row["n"]),
        found,
        limit,
        spread,
        row["verdict"],
    )


def _held_out(
    card: Path, data: Path | None, settings: options.HeldOutOptions, quiet: bool
) -> dict[str, Any]:
    from certes.apps.jobs.verify import verify_held_out

    if data is None:
        raise InputError("data: give --data DIR, true pictures that the card has never seen")
    result = verify_held_out(card, data, settings)
    if not quiet:
        limits = result["interval"]
        spread = "" if limits is None else f" (95 % interval {limits[0]:.3f} to {limits[1]:.3f})"
        tolerance = result["tolerance"]
        what = "Risk" if tolerance is None else f"Share that miss over {100 * tolerance:g} %"
        say(
            f"{what} on {result['images']} held-out images: {result['risk']:.3f}{spread}; "
            f"promised: at most {result['alpha']:g}. Verdict: {result['verdict']}."
        )
    return result
