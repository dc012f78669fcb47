"""Restoration of held-out nuclei: certes, DDRM on the same network, and the best classical method.

    python benchmarks/restoration_quality.py [--data ../shared/data/nuclei] [--ship]

Four tasks at 20 network calls, K = 16, on the busiest 64x64 crop of each test picture (none was
trained or tuned on). The pictures are split in two: on the first part each task's calibration card
is made, everything else is scored on the second. Classical weights are tuned on training pictures.
With ``--ship`` the cards are written into the bundled model's folder.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from _report import HERE, Report
from classical import Measurement, classical, tune
from rich.console import Console
from rich.progress import track
from rich.table import Table

import certes
from certes.data.bundled import bundled_pictures
from certes.data.pictures import read_picture
from certes.evaluation.metrics import psnr
from certes.intervals.bounds import Bounds
from certes.intervals.calibration import calibrate
from certes.intervals.posterior import Posterior, join
from certes.intervals.verification import verify_card
from certes.networks.model import BUNDLED, Model
from certes.restoration.degradations import degrade
from certes.restoration.operators import DecomposedOperator, gaussian_kernel

SIDE, SAMPLES, STEPS = 64, 16, 20
CALIBRATION_SHARE = 70
NOMINAL = 15 / 17
TUNING = 24


@dataclass(frozen=True)
class Task:
    """One degradation as all methods see it."""

    name: str
    operator: DecomposedOperator
    noise: float


def tasks() -> list[Task]:
    """The four tasks of the demo."""
    shape, ops = (1, SIDE, SIDE), certes.operators
    order = torch.randperm(SIDE * SIDE, generator=torch.Generator().manual_seed(0))
    known = (order >= round(0.8 * SIDE * SIDE)).reshape(SIDE, SIDE)
    return [
        Task("denoise", ops.Denoise(shape), 0.1),
        Task("super-resolve", ops.SuperResolution(shape, 4), 0.02),
        Task("inpaint", ops.Inpaint(shape, known), 0.02),
        Task("deblur", ops.Blur(shape, gaussian_kernel(2.0)), 0.02),
    ]


def busiest_crop(picture: torch.Tensor) -> torch.Tensor:
    """The (1, 64, 64) crop of the largest standard deviation, on a grid of 16 pixels."""
    crops = picture.unfold(1, SIDE, 16).unfold(2, SIDE, 16).reshape(-1, SIDE, SIDE)
    return crops[crops.std(dim=(1, 2)).argmax()][None]


def pictures(folder: Path) -> tuple[list[str], torch.Tensor]:
    """Names and crops of a folder's pictures, in order of their names."""
    paths = sorted(folder.glob("*.png"))
    crops = [busiest_crop(read_picture(path).pixels[:1]) for path in paths]
    return [path.stem for path in paths], torch.stack(crops)


def split(names: list[str]) -> tuple[list[int], list[int]]:
    """Calibration and held-out indices; the bundled pictures, which the demo shows, are held."""
    shown = {picture.name for picture in bundled_pictures()}
    free = [i for i, name in enumerate(names) if name not in shown]
    order = np.random.default_rng(0).permutation(free).tolist()
    calibration = sorted(order[:CALIBRATION_SHARE])
    return calibration, sorted(set(range(len(names))) - set(calibration))


def as_numpy(task: Task, y: torch.Tensor) -> Measurement:
    """A measurement for the classical methods."""
    known = getattr(task.operator, "mask", None)
    line = gaussian_kernel(2.0).numpy()
    kernel = np.outer(line, line) if task.name == "deblur" else None
    mask = None if known is None else known[0].numpy()
    return Measurement(task.name, y[0].double().numpy(), task.noise, mask, 4, kernel)


def best_classical(
    task: Task, train: torch.Tensor, x: torch.Tensor, y: torch.Tensor
) -> tuple[str, float]:
    """The method of highest mean PSNR on the scored pictures; weights from training pictures."""
    seen = degrade(train, task.operator, task.noise, seed=1)
    weights = tune([as_numpy(task, v) for v in seen], [t[0].double().numpy() for t in train])
    scores: dict[str, list[float]] = {}
    for truth, measured in zip(x, y, strict=True):
        for name, picture in classical(as_numpy(task, measured), weights).items():
            restored = torch.from_numpy(picture).float()[None, None]
            scores.setdefault(name, []).append(float(psnr(restored, truth[None])))
    means = {name: float(np.mean(values)) for name, values in scores.items()}
    winner = max(means, key=lambda name: means[name])
    return winner, means[winner]


def run(task: Task, y: torch.Tensor, model: Model, sampler: str) -> Posterior:
    """The posterior of all pictures, with a progress bar over chunks."""
    ddrm = sampler == "ddrm"
    parts = [
        certes.restore(
            chunk, task.operator, model, noise=task.noise, samples=SAMPLES, steps=STEPS,
            sampler=sampler, faithful=ddrm,
        )
        for chunk in track(y.split(8), f"{task.name} {sampler}")
    ]  # fmt: skip
    return join(parts)


def part_of(bounds: Bounds, indices: list[int]) -> Bounds:
    """The bounds of some of the pictures."""
    chosen = (getattr(bounds, name)[indices] for name in ("lower", "estimate", "upper"))
    return Bounds(*chosen, provenance=bounds.provenance)


@dataclass(frozen=True)
class Score:
    """What came of one task on the held-out pictures."""

    psnr: float
    ddrm_psnr: float
    classical: str
    classical_psnr: float
    coverage: float
    ddrm_coverage: float
    risk: float
    raw_width: float
    width: float


def score(task: Task, model: Model, data: Path, ship: bool) -> Score:
    """One task: quality, raw coverage, and the card's risk on pictures it has not seen."""
    names, x = pictures(data / "test" / "images")
    _, train = pictures(data / "train" / "images")
    fitted, held = split(names)
    y = degrade(x, task.operator, task.noise, seed=0)
    ours, ddrm = run(task, y, model, "pinned"), run(task, y[held], model, "ddrm")
    raw = ours.bounds(0.1)
    card = calibrate(part_of(raw, fitted), x[fitted], alpha=0.1, delta=0.1)
    if ship:
        card.save(BUNDLED / "nuclei" / "cards" / f"{task.name}.json")
    train = train[:: len(train) // TUNING][:TUNING]
    name, classic = best_classical(task, train, x[held], y[held])
    raw, truth = part_of(raw, held), x[held]
    return Score(
        psnr=float(psnr(ours.estimate[held], truth).mean()),
        ddrm_psnr=float(psnr(ddrm.mean, truth).mean()),
        classical=name,
        classical_psnr=classic,
        coverage=float(raw.contains(truth).float().mean()),
        ddrm_coverage=float(ddrm.bounds(0.1).contains(truth).float().mean()),
        risk=verify_card(card, raw, truth).risk,
        raw_width=float(raw.width.mean()),
        width=float(card(raw).width.mean()),
    )


def claim(task: Task, s: Score, report: Report) -> None:
    """The four claims of one task."""
    lead, gain = s.psnr - s.ddrm_psnr, s.psnr - s.classical_psnr
    wanted = 5.0 if task.name == "inpaint" else -0.3
    report.claim(
        f"{task.name}: PSNR {s.psnr:.2f}, over the best classical method ({s.classical})",
        round(gain, 2),
        "1.5 in three tasks, 0 in the fourth",
        gain >= 0,
    )
    text = f"{task.name}: PSNR over DDRM's ({s.ddrm_psnr:.2f}) on the same network"
    report.claim(text, round(lead, 2), f"at least {wanted}", lead >= wanted)
    report.claim(
        f"{task.name}: raw coverage of the K = 16 min-max interval (DDRM {s.ddrm_coverage:.3f})",
        round(s.coverage, 3),
        f"{NOMINAL:.3f} within .06",
        abs(s.coverage - NOMINAL) <= 0.06,
    )
    report.claim(
        f"{task.name}: held-out risk of the card (width {s.width:.4f}, raw {s.raw_width:.4f})",
        round(s.risk, 4),
        "at most .1",
        s.risk <= 0.1,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared/data/nuclei")
    parser.add_argument("--ship", action="store_true", help="write the cards into the model folder")
    arguments = parser.parse_args()
    report, model = Report("restoration_quality"), certes.load("nuclei")
    table = Table("task", "certes dB", "DDRM dB", "classical dB", "coverage", "DDRM's", "risk")
    ahead = 0
    for task in tasks():
        s = score(task, model, arguments.data, arguments.ship)
        claim(task, s, report)
        ahead += s.psnr - s.classical_psnr >= 1.5
        levels = (s.psnr, s.ddrm_psnr, s.classical_psnr)
        shares = (s.coverage, s.ddrm_coverage, s.risk)
        table.add_row(task.name, *(f"{v:.2f}" for v in levels), *(f"{v:.3f}" for v in shares))
    Console().print(table)
    text = "tasks with a lead of 1.5 dB over the best classical method"
    report.claim(text, ahead, "at least 3 of 4", ahead >= 3)
    report.save()


if __name__ == "__main__":
    main()
