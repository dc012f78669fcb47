"""A 3840 x 2160 colour photograph, denoised and deblurred: memory, and seams between tiles.

    python benchmarks/large_picture.py [--model photo-grey] [--data ../shared/data/demo24_cc0]

A real photograph is continued by its mirror images to that size (so that it has no edges of its
own), degraded, and restored by the command line in a process of its own, whose peak memory is
read from the operating system. A seam is a jump between neighbouring pixels that is larger where
tiles begin and end than elsewhere. Pictures jump anyhow, here more and there less, so the same is
measured on the true picture, and on the error against the lines beside each border.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from _report import HERE, Report
from torch import Tensor

import certes
from certes.data.files import write_json
from certes.data.pictures import Picture, read_picture, write_picture
from certes.evaluation.metrics import psnr
from certes.networks.tiling import TiledDenoiser, fitted, starts

WIDTH, HEIGHT = 3840, 2160
LIMIT_GB, SEAM, BESIDE = 6.0, 0.05, 16
TASKS = {
    "denoise": ["--task", "denoise", "--noise", "0.1"],
    "deblur": ["--task", "deblur", "--kernel", "gaussian:2", "--noise", "0.02"],
}
FEW = ["--samples", "2", "--alpha", "0.5", "--steps", "2"]


def mirrored(photo: Tensor) -> Tensor:
    """The photograph and its mirror images, until the frame is full."""
    for dimension, size in ((1, HEIGHT), (2, WIDTH)):
        pair = torch.cat([photo, photo.flip(dimension)], dim=dimension)
        copies = [1, 1, 1]
        copies[dimension] = -(-size // pair.shape[dimension])
        photo = pair.repeat(*copies).narrow(dimension, 0, size)
    return photo.contiguous()


def run(arguments: list[str]) -> float:
    """Run certes; gigabytes of memory that it had at its peak."""
    command = [sys.executable, "-m", "certes", *arguments]
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command], check=True, capture_output=True, text=True
    )
    unit = 1 if sys.platform == "darwin" else 1024
    return int(done.stdout.split()[-1]) * unit / 1e9


def seams(picture: Tensor, truth: Tensor, model: certes.Model) -> tuple[float, float]:
    """Mean absolute jump across tile borders: of the picture over that everywhere else, and of the
    error over that across the lines beside them.

    Lines farther away show other things, which jump more or less without any seam.
    """
    tiles = fitted(model, (1, HEIGHT, WIDTH))
    assert isinstance(tiles, TiledDenoiser)
    elsewhere, beside = [], []
    for dimension, size in ((1, HEIGHT), (2, WIDTH)):
        first = starts(size, tiles.tile, tiles.overlap)
        borders = [*first[1:], *(start + tiles.tile for start in first[:-1])]
        at, near = torch.zeros(2, size - 1, dtype=torch.bool)
        for border in borders:
            at[border - 1] = True
            near[max(0, border - 1 - BESIDE) : border + BESIDE] = True
        plain, error = jumps(picture, dimension), jumps(picture - truth, dimension)
        elsewhere.append(float(plain[at].mean() / plain[~at].mean()))
        beside.append(float(error[at].mean() / error[near & ~at].mean()))
    return farthest(elsewhere), farthest(beside)


def jumps(picture: Tensor, dimension: int) -> Tensor:
    """Between each line and the next, the mean absolute difference."""
    return picture.diff(dim=dimension).abs().movedim(dimension, 0).flatten(1).mean(1)


def farthest(ratios: list[float]) -> float:
    """From one."""
    return max(ratios, key=lambda ratio: abs(ratio - 1))


def restored(task: str, truth: Tensor, model: str, folder: Path) -> float:
    """Degrade and restore, unless that was done before; gigabytes at the peak."""
    out = folder / task
    if (out / "memory.json").is_file():
        return float(json.loads((out / "memory.json").read_text()))
    write_picture(folder / "photo.png", truth, Picture("photo", truth, None, "uint16"))
    run(["degrade", str(folder / "photo.png"), *TASKS[task], "--out", str(out), "--png"])
    degraded = str(out / "photo.degraded.png")
    memory = run(["restore", degraded, *TASKS[task], *FEW, "--model", model, "--out", str(out)])
    write_json(out / "memory.json", memory)
    return memory


def measure(task: str, truth: Tensor, model: str, folder: Path, report: Report) -> None:
    memory, out = restored(task, truth, model, folder), folder / task
    picture = read_picture(out / "photo.degraded.restored.png").pixels
    seconds = json.loads((out / "report.json").read_text())["images"][0]["seconds"]
    gain = float(psnr(picture[None], truth[None]))
    before = float(psnr(read_picture(out / "photo.degraded.png").pixels[None], truth[None]))
    report.claim(
        f"{task}: gigabytes at the peak, {WIDTH} x {HEIGHT} in colour ({seconds / 60:.1f} minutes, "
        f"PSNR {before:.2f} to {gain:.2f} dB)",
        round(memory, 2), f"under {LIMIT_GB}", memory < LIMIT_GB,
    )  # fmt: skip
    elsewhere, beside = seams(picture, truth, certes.load(model))
    itself, _ = seams(truth, torch.zeros_like(truth), certes.load(model))
    report.claim(
        f"{task}: jump across tile borders over that elsewhere (of the true picture, which has no "
        f"tiles: {itself:.3f})",
        round(elsewhere, 3), f"1 within {SEAM:.0%}", abs(elsewhere - 1) <= SEAM,
    )  # fmt: skip
    report.claim(
        f"{task}: jump of the error across tile borders over that beside them",
        round(beside, 3), f"1 within {SEAM:.0%}", abs(beside - 1) <= SEAM,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="photo-grey")
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared/data/demo24_cc0")
    parser.add_argument("--keep", type=Path, help="keep the pictures here, and go on from them")
    arguments = parser.parse_args()
    photo = read_picture(sorted(arguments.data.glob("*.png"))[0]).pixels
    truth, report = mirrored(photo), Report("large_picture")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for task in TASKS:
            measure(task, truth, arguments.model, folder, report)
    report.save()


if __name__ == "__main__":
    main()
