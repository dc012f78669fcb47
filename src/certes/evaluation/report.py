"""The report of a run, for programs: one JSON file beside the pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from certes.data.files import write_json


@dataclass(frozen=True)
class ImageReport:
    """What was measured on one picture.

    Widths are in image units, PSNR in dB, `nfe` is the number of network calls per sample.
    `psnr`, `ssim` and `coverage` (share of the truth's values inside the interval) need a truth and
    are left out of the file without one.
    """

    name: str
    mean_width: float
    seconds: float
    nfe: int
    psnr: float | None = None
    ssim: float | None = None
    coverage: float | None = None


@dataclass(frozen=True)
class Failure:
    """A picture that could not be restored, and why, in one line."""

    name: str
    error: str


@dataclass(frozen=True)
class Report:
    """What a run did, with which guarantee, to which pictures.

    `noise` is in image units; `guarantee` is a sentence in words, None for raw intervals;
    `settings` holds whatever else makes the run repeatable (samples, steps, seed, the operator).
    """

    version: str
    model: str
    task: str
    noise: float | None
    alpha: float | None
    delta: float | None
    guarantee: str | None
    images: Sequence[ImageReport]
    failures: Sequence[Failure] = ()
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])


def write_report(path: str | Path, report: Report) -> None:
    """Write `report` as JSON, atomically; the infinite PSNR of equal pictures becomes null."""
    content = asdict(report)
    content["images"] = [_entry(image) for image in report.images]
    write_json(path, content)


def _entry(image: ImageReport) -> dict[str, Any]:
    known = {key: value for key, value in asdict(image).items() if value is not None}
    if math.isinf(known.get("psnr", 0.0)):
        known["psnr"] = None
    return known
