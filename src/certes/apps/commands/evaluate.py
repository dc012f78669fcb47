"""certes evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from certes.apps import options
from certes.apps.console import number, say, show_json, show_table


def evaluate(
    data: options.Data,
    out: options.Out,
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
    samples: options.Samples = 16,
    steps: options.Steps = 20,
    alpha: options.Alpha = 0.1,
    sampler: options.Sampler = None,
    policy: options.Policy = None,
    colours: options.Colours = None,
    calibration: options.Card = None,
    crop: options.Crop = 128,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
) -> None:
    """Degrade and restore true pictures, and score the restorations and their intervals.

    Writes report.html, one page to read and to pass on (scores, figures, panels of the first
    pictures, how it was made), the same for programs as report.json, and the panels.
    Risk is the share of pixels whose interval misses the truth; rank corr. is Spearman's, of
    interval width and error: do wide intervals mark the errors? A conditional model is given
    what its training made of pictures, or --conditions.
    """
    from certes.apps.jobs.evaluate import PAGE, evaluate_model

    report = evaluate_model(
        options.Asked(task, factor, kernel, mask, missing, ratio, quality, noise, conditions),
        options.SamplingOptions(
            model, samples, steps, alpha, seed, sampler, device, colours, policy
        ),
        calibration,
        data,
        crop,
        out,
    )
    if as_json:
        show_json(report)
    else:
        _show(report, out / PAGE)


def _show(report: dict[str, Any], page: Path) -> None:
    scores = report["settings"]["scores"]
    kinds = [kind for kind in ("raw", "calibrated") if scores[kind] is not None]
    show_table(
        ("intervals", "risk", "95 % interval", "mean width", "rank corr.", "PSNR, dB", "SSIM"),
        [_row(kind, scores[kind]) for kind in kinds],
    )
    if scores["psnr_degraded"] is not None:
        say(f"PSNR of the degraded pictures: {number(scores['psnr_degraded'], 2)} dB")
    say(report["guarantee"] or options.NO_GUARANTEE)
    say(f"Results are in {page.parent}; to read them, open {page}")


def _row(kind: str, scores: dict[str, Any]) -> tuple[str, ...]:
    limits = scores["risk_interval"]
    return (
        kind,
        number(scores["risk"]),
        "-" if limits is None else f"{limits[0]:.3f} to {limits[1]:.3f}",
        number(scores["width"]),
        number(scores["rank_correlation"]),
        number(scores["psnr"], 2),
        number(scores["ssim"]),
    )
