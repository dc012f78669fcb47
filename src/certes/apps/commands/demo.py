"""certes demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from certes.apps import options
from certes.apps.console import number, say, show_json, show_table


def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for the results.")
    ] = Path("certes-demo"),
    model: options.Model = "nuclei",
    samples: options.Samples = 16,
    steps: options.Steps = 20,
    crop: options.Crop = 96,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
) -> None:
    """Take the two-minute tour: bundled pictures of cell nuclei, degraded and restored.

    Four tasks: denoise (noise 0.1), super-resolve 4 times, inpaint with 80 % of the pixels missing,
    deblur a Gaussian of 2 pixels (noise 0.02 each). Writes panels to look at and a report.json for
    each task into DIR/TASK. The pictures have not been used for training.
    """
    from certes.apps.jobs.demo import run_demo

    settings = options.SamplingOptions(model, samples, steps, 0.1, seed, None, device)
    reports = run_demo(settings, crop, out)
    if as_json:
        show_json({"tasks": reports})
    else:
        _show(reports, out)


def _show(reports: dict[str, dict[str, Any]], out: Path) -> None:
    columns = ("task", "PSNR degraded", "restored, dB", "coverage", "mean width", "guarantee")
    show_table(columns, [_row(task, report) for task, report in reports.items()])
    for sentence in dict.fromkeys(r["guarantee"] or options.NO_GUARANTEE for r in reports.values()):
        say(sentence)
    say(
        "The coverage of a single picture, or of these four, may lie on either side of the promise."
    )
    say(f"Look at the panels: {out}/*/*.panel.png")


def _row(task: str, report: dict[str, Any]) -> tuple[str, ...]:
    scores = report["settings"]["scores"]
    shown = scores["calibrated"] or scores["raw"]
    promised = "none" if report["guarantee"] is None else f"at least {1 - report['alpha']:.0%}"
    return (
        task,
        number(scores["psnr_degraded"], 2),
        number(shown["psnr"], 2),
        f"{1 - shown['risk']:.1%}",
        number(shown["width"]),
        promised,
    )
