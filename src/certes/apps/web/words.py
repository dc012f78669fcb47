"""What the page says, as HTML; whatever a user named is escaped."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path

from certes.apps.options import NO_GUARANTEE
from certes.apps.web.answers import Answer, Region
from certes.apps.web.drawing import histogram
from certes.apps.web.runs import Result

WELCOME = (
    '<p class="certes-muted">Pick a picture, say what happened to it, and press Restore. You get '
    "the restoration, an interval for every pixel, and in words what those intervals promise.</p>"
)


def one_line(error: Exception, folder: Path) -> str:
    """An error in one line; files on the server go by their names alone."""
    inner = r"/(?:(?:run-[0-9a-f]+|picture|mask|degraded|results)/)*"
    return " ".join(re.sub(re.escape(str(folder)) + inner, "", str(error)).split())


def complaint(line: str) -> str:
    """An error, which stays until the next click."""
    return _box("certes-error", "That did not work", line, role="alert")


def remark(line: str) -> str:
    """Something that is no error."""
    return f'<p class="certes-muted" role="status">{html.escape(line)}</p>' if line else ""


def progress_bar(share: float) -> str:
    """How far a restoration is."""
    percent = round(100 * share)
    return (
        f'<div role="status">Restoring: {percent} % of the network calls are done'
        f'<div class="certes-track"><div style="width:{percent}%"></div></div></div>'
    )


def guarantee(result: Result) -> str:
    """The guarantee, or that there is none: the words of the command line."""
    words = result.report["guarantee"]
    if words is None:
        return _box("certes-unsure", "No guarantee", NO_GUARANTEE)
    return _box("certes-sure", "Guarantee", words)


def summary(result: Result) -> str:
    """What was done, and how well, as far as that is known."""
    (image,) = result.report["images"]
    noise = result.report["noise"]
    said = [
        f"{result.report['task']} by {result.report['model']}",
        f"{image['seconds']:.1f} s",
        f"{image['nfe']} network calls for each sample",
        *([f"noise {noise:.3g}"] if noise is not None else []),
        f"mean interval width {image['mean_width']:.3f}",
    ]
    if image.get("psnr") is not None:
        said.append(f"PSNR {image['psnr']:.2f} dB against the truth")
    if image.get("coverage") is not None:
        said.append(
            f"{100 * image['coverage']:.1f} % of the values of this one picture lie inside their "
            "interval (it may be above or below what is promised on average)"
        )
    return f'<p class="certes-muted">{html.escape("; ".join(said))}.</p>'


def of_pixel(x: int, y: int, answers: Sequence[Answer]) -> str:
    """The interval of a pixel and its samples, channel by channel."""
    parts = [f"<b>Pixel x {x}, y {y}</b>"]
    for name, answer in zip(_channels(len(answers)), answers, strict=True):
        parts.append(_numbers(answer, name) + histogram(answer))
    return "".join(parts)


def of_region(region: Region, answer: Answer, alpha: float) -> str:
    """The interval of a region's mean."""
    where = (
        f"x {region.left} to {region.right}, y {region.top} to {region.bottom} "
        f"({region.pixels} pixels)"
    )
    note = (
        f'<p class="certes-muted">From the mean in each of {len(answer.samples)} samples, at alpha '
        f"{alpha:g}. It carries no guarantee: calibration cards speak of pixels. "
        "certes.intervals.answers makes cards for such numbers.</p>"
    )
    return f"<b>Mean over {where}</b>" + _numbers(answer, "") + histogram(answer) + note


def _channels(count: int) -> Sequence[str]:
    named = {1: [""], 3: ["red", "green", "blue"]}
    return named.get(count, [f"channel {i}" for i in range(count)])


def _numbers(answer: Answer, channel: str) -> str:
    rows = [
        (f"interval{' of ' + channel if channel else ''}",
         f"{answer.lower:.4f} to {answer.upper:.4f}"),
        ("estimate", f"{answer.estimate:.4f}"),
        ("width", f"{answer.upper - answer.lower:.4f}"),
    ]  # fmt: skip
    if answer.truth is not None:
        inside = answer.lower <= answer.truth <= answer.upper
        rows.append(("truth", f"{answer.truth:.4f}, {'inside' if inside else 'outside'}"))
    cells = "".join(f"<tr><th scope='row'>{k}</th><td>{v}</td></tr>" for k, v in rows)
    return f'<table class="certes-numbers">{cells}</table>'


def _box(kind: str, title: str, words: str, role: str = "note") -> str:
    return f'<div class="certes-box {kind}" role="{role}"><b>{title}</b>{html.escape(words)}</div>'
