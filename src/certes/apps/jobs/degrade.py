"""Make degraded copies of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from certes import __version__
from certes.apps.console import complain_about
from certes.apps.measuring import degraded
from certes.apps.options import TaskOptions
from certes.apps.outputs import all_or_nothing, named_pictures
from certes.apps.tasks import Task, make_task, noise_level
from certes.data.measurements import SUFFIX, MeasurementFile, write_measurement
from certes.data.pictures import read_picture, write_picture, write_tiff_stack
from certes.errors import CertesError
from certes.restoration.operators import CompressedSensing, Inpaint


def degrade_pictures(
    inputs: Sequence[Path],
    options: TaskOptions,
    noise: float | None,
    seed: int,
    out: Path,
    png: bool,
) -> dict[str, Any]:
    """Write a degraded copy of each picture that can have one; returns what was written.

    Raises: CertesError for options or inputs that make no sense.
    """
    task = make_task(options, seed)
    level = noise_level(task, noise)
    images: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    for index, path in enumerate(named_pictures(inputs)):
        try:
            files = _degrade(path, task, level, seed, index, out, png)
            images.append({"name": path.stem, "files": files})
        except CertesError as error:
            failures.append({"name": path.name, "error": complain_about(path, error)})
    return {
        "version": __version__,
        "task": task.name,
        "operator": task.label,
        "noise": level,
        "seed": seed,
        "images": images,
        "failures": failures,
    }


def _degrade(
    path: Path, task: Task, noise: float, seed: int, index: int, out: Path, png: bool
) -> list[str]:
    picture = read_picture(path)
    H, y = degraded(picture.pixels[None], task, noise, seed, index)
    with all_or_nothing(out) as folder:
        if isinstance(H, CompressedSensing):
            said = {**H.describe(), "seed": H.seed}
            measured = MeasurementFile(picture.name, y[0], said, noise)
            write_measurement(folder / f"{picture.name}.measured{SUFFIX}", measured)
        elif png:
            eight_or_sixteen = "uint8" if picture.dtype == "float32" else picture.dtype
            like = replace(picture, dtype=eight_or_sixteen)
            write_picture(folder / f"{picture.name}.degraded.png", y[0], like)
        else:
            write_tiff_stack(folder / f"{picture.name}.degraded.tif", {"degraded": y[0]})
        if isinstance(H, Inpaint):
            known = H.mask[:1].float()
            like = replace(picture, alpha=None, dtype="uint8")
            write_picture(folder / f"{picture.name}.mask.png", known, like)
        return sorted(file.name for file in folder.iterdir())
