"""certes score."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from certes.apps import options
from certes.apps.console import note, number, say, show_json, show_table


class FitName(StrEnum):
    """Values of ``certes.evaluation.folders.FITS``."""

    TILES = "tiles"
    RESIZE = "resize"


# Of the network of the published scores, and of any other.
_PUBLISHED = ("FID", "sFID", "KID", "Inception score")
_OTHER = ("Frechet distance", "spatial Frechet distance", "kernel distance", "class score")


def score(
    samples: Annotated[
        Path,
        typer.Argument(
            metavar="SAMPLES",
            show_default=False,
            help="Folder of generated pictures of one size, as certes sample writes it.",
        ),
    ],
    data: Annotated[
        Path,
        typer.Option(
            "--data", metavar="DIR", show_default=False, help="Folder of real pictures like them."
        ),
    ],
    features: Annotated[
        str,
        typer.Option(
            "--features",
            metavar="inception|NAME|PATH",
            help="What looks at the pictures: a model by name or folder (its mid-block), the "
            "Inception network of published scores, or a TorchScript file.",
        ),
    ] = "nuclei",
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights",
            metavar="FILE",
            show_default=False,
            help="inception: the file with its weights; nothing is downloaded.",
        ),
    ] = None,
    fit: Annotated[
        FitName | None,
        typer.Option(
            "--fit",
            show_default=False,
            help="What to do with real pictures of another size: cut them into tiles, or resize.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", show_default=False, help="Write the scores as JSON."),
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
) -> None:
    """Score generated pictures against real ones: distances, precision and recall.

    With --features inception and its weights these are FID, sFID, KID and Inception score. With any
    other network they are the same formulas on other features, named as such: compare them only
    with scores of the same network, best one that drew none of the pictures. Both sets need at
    least 4 pictures; below 10000 the Frechet distances are biased, which is said. Grey pictures are
    repeated to three channels for networks that want colours.
    """
    from certes.apps.jobs.score import score_folders

    result = score_folders(samples, data, features, weights, fit, seed, device, out)
    for warning in result["warnings"]:
        note(f"warning: {warning}")
    if as_json:
        show_json(result)
    else:
        _show(result)


def _show(result: dict[str, Any]) -> None:
    say(f"Features: {result['features']}, {result['dimension']} numbers a picture")
    say(f"Pictures: {result['generated']} generated, {result['real']} real")
    frechet, spatial, kernel, classes = _PUBLISHED if result["published"] else _OTHER
    rows = [
        (frechet, "lower", _short(result["frechet_distance"]), ""),
        (spatial, "lower", _short(result["spatial_frechet_distance"]), ""),
        (
            kernel,
            "lower",
            _short(result["kernel_distance"]),
            f"± {_short(result['kernel_distance_std'])} in subsets of {result['subset_size']}",
        ),
        ("precision", "higher", number(result["precision"]), ""),
        ("recall", "higher", number(result["recall"]), ""),
        (
            classes,
            "higher",
            _short(result["inception_score"]),
            f"± {_short(result['inception_score_std'])} in tenths of the pictures",
        ),
    ]
    known = [row for row in rows if row[2] != "-"]
    show_table(("measure", "better", "value", "spread"), known, words=2)


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
