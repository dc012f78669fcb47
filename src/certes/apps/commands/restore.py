"""certes restore."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from certes.apps import options
from certes.apps.console import number, say, show_json, show_table


def restore(
    inputs: options.Inputs,
    out: options.Out,
    task: options.AskedTask = None,
    model: options.Model = "nuclei",
    noise: options.NoiseOrAuto = None,
    factor: options.Factor = None,
    kernel: options.Kernel = None,
    mask: options.Mask = None,
    quality: options.Quality = None,
    samples: options.Samples = 16,
    steps: options.Steps = 20,
    alpha: options.Alpha = 0.1,
    sampler: options.Sampler = None,
    policy: options.Policy = None,
    colours: options.Colours = None,
    calibration: options.Card = None,
    truth: options.Truth = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
) -> None:
    """Restore degraded pictures, with an interval for every pixel.

    Writes for each input NAME.restored.png (.tif for float pictures), NAME.intervals.tif (float32
    pages: lower, estimate, upper) and NAME.panel.png to look at, and one report.json. For
    super-resolve the input is the small picture. A blur that is not symmetric (motion, a picture of
    a kernel) is undone with the border that it reached into left unknown. Pictures of any size are
    restored in bounded memory.

    A conditional model is given what it was trained on: noisy or small pictures, pictures with
    holes and their --mask, line drawings, pictures that number the objects (labels), or the other
    half of its pairs. It takes no --noise and no other option of a task, and sees pictures whole,
    best at the size that it was trained on.
    """
    from certes.apps.jobs.restore import RestoreJob
    from certes.apps.plans import plan_restoration

    plan = plan_restoration(
        options.Asked(task, factor, kernel, mask, quality=quality, noise=noise),
        options.SamplingOptions(
            model, samples, steps, alpha, seed, sampler, device, colours, policy
        ),
        calibration,
    )
    report = RestoreJob(plan, out).run(inputs, truth)
    if as_json:
        show_json(report)
    elif report["images"]:
        _show(report, out)
    if report["failures"]:
        raise typer.Exit(2)


def _show(report: dict[str, Any], out: Path) -> None:
    columns = ("picture", "noise", "PSNR, dB", "coverage", "mean width", "seconds")
    levels = report["settings"]["noise_levels"]
    rows = [
        (
            image["name"],
            number(levels[image["name"]], 4),
            number(image.get("psnr"), 2),
            number(image.get("coverage")),
            number(image["mean_width"]),
            number(image["seconds"], 1),
        )
        for image in report["images"]
    ]
    show_table(columns, rows)
    say(report["guarantee"] or options.NO_GUARANTEE)
    say(f"Results are in {out}")
