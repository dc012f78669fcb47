"""What the cards of the bundled models say: scores, calibration cards, errors by picture size.

    python benchmarks/model_scores.py [MODEL ...] [--ship]

`photo-grey`: luminance of the busiest 64x64 crop of each of the 24 CC0 photographs (its 400
training photographs are refused). So few certify nothing about one calibration, so the cards
promise an average over calibrations (rule crc), and what they promise is measured as it is
defined: each photograph by a card made of the 23 others. `nuclei-functions`: crops of test
pictures, 50 to calibrate on (rule wsr), 22 others to judge. K = 16, 20 network calls, alpha =
delta = .1. PSNR stands beside that of the best classical method, tuned on training pictures.

Beside it what fully convolutional networks have in place of a discretisation certificate: the
error of denoising the same pixels (noise .1) cut into tiles of other sizes than the 64 pixels of
training. And the rates of `nuclei-functions` on training crops. With ``--ship`` all is written
into the models' folders. Restored bounds are kept in ``results/.cache/models``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import jpeg as deblocking
import torch
from _interval_runs import nuclei
from _report import HERE, Report
from restoration_quality import (
    SAMPLES,
    SIDE,
    STEPS,
    Task,
    best_classical,
    busiest_crop,
    part_of,
    pictures,
    tasks,
)
from rich.progress import track
from torch import Tensor

import certes
from certes.data.files import write_json
from certes.data.patches import PatchDataset, load_folder
from certes.data.tensors import write_tensors
from certes.evaluation.metrics import psnr
from certes.intervals.bounds import Bounds, Provenance
from certes.intervals.calibration import calibrate
from certes.intervals.cards import Calibration
from certes.intervals.posterior import join
from certes.intervals.verification import verify_card
from certes.networks.files import read_header, read_json, read_tensors
from certes.networks.model import BUNDLED, CARD, RATES
from certes.networks.prior import Prior
from certes.restoration.degradations import degrade
from certes.restoration.operators import Jpeg
from certes.training.fitted import Fitted, check_unseen
from certes.training.publish import FRESH, SPECTRUM_PATCHES
from certes.training.rates import measure_rates

SHARED = HERE.parent.parent / "shared" / "data"
KEPT = HERE / "results" / ".cache" / "models"
ALPHA = 0.1
CALIBRATED, JUDGED, TUNING = 50, 22, 24
TILES, WHOLE, LEVEL = (32, 64, 128, 256), 256, 0.1

JPEG = Task("jpeg", Jpeg((1, SIDE, SIDE), 10), 0.0)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class Case:
    """A model and the pictures that it is judged by.

    Args:
        model: its name.
        tasks: what is judged.
        truth: crops, calibration first.
        train: crops that classical methods are tuned on.
        whole: larger pictures, none of them trained on; of a fully convolutional network.
        judge: makes the card, and measures its held-out risk.
        held: which crops are scored.
        told: what the scores are of.
    """

    model: str
    tasks: tuple[str, ...]
    truth: Callable[[], Tensor]
    train: Callable[[], Tensor]
    judge: Callable[[Bounds, Tensor], tuple[Calibration, float]]
    held: slice
    told: str


def split_in_two(raw: Bounds, truth: Tensor) -> tuple[Calibration, float]:
    """Calibrated on the first pictures, judged on the others."""
    first, rest = list(range(CALIBRATED)), list(range(CALIBRATED, len(truth)))
    card = calibrate(part_of(raw, first), truth[first], alpha=ALPHA, delta=0.1)
    return card, verify_card(card, part_of(raw, rest), truth[rest]).risk


def each_by_the_others(raw: Bounds, truth: Tensor) -> tuple[Calibration, float]:
    """The card of all pictures, and the mean risk of each by the card of all others."""
    every = list(range(len(truth)))

    def risk(i: int) -> float:
        others = [j for j in every if j != i]
        card = calibrate(part_of(raw, others), truth[others], alpha=ALPHA, rule="crc")
        interval = replace(card, features=())(part_of(raw, [i]))  # no warnings of novelty
        return 1 - float(interval.contains(truth[[i]]).double().mean())

    return calibrate(raw, truth, alpha=ALPHA, rule="crc"), sum(map(risk, every)) / len(every)


def crops(folder: Path) -> Tensor:
    """The busiest crops of photographs, luminance."""
    return torch.stack([busiest_crop(p.float() / 255) for p in load_folder(folder, grey=True)])


def spread(x: Tensor) -> Tensor:
    """A few of many, from all over."""
    return x[:: len(x) // TUNING][:TUNING]


CASES = (
    Case(
        "photo-grey",
        ("denoise", "super-resolve", "deblur", "jpeg"),
        lambda: crops(SHARED / "demo24_cc0"),
        lambda: spread(crops(SHARED / "bsds500/train")),
        each_by_the_others,
        slice(None),
        "24 CC0 photographs, luminance, busiest 64x64 crop, K = 16, 20 calls; the risk is that of "
        "each by a card made of the 23 others",
    ),
    Case(
        "nuclei-functions",
        ("denoise", "super-resolve"),
        lambda: torch.cat([nuclei().calibration[:CALIBRATED], nuclei().held[:JUDGED]]),
        lambda: spread(pictures(SHARED / "nuclei/train/images")[1]),
        split_in_two,
        slice(CALIBRATED, None),
        f"{JUDGED} held-out test pictures, busiest 64x64 crop, K = 16, 20 calls",
    ),
)
WHOLES = {"nuclei": SHARED / "nuclei/test/images", "photo-grey": SHARED / "demo24_cc0"}


@dataclass(frozen=True)
class Restored:
    """Raw bounds, and the posterior's estimates."""

    bounds: Bounds
    estimate: Tensor


def restored(case: Case, task: Task, y: Tensor) -> Restored:
    """By the call that users make; now or before."""
    model = loaded(case.model)
    path = KEPT / f"{task.name}-{model.hash}.safetensors"
    if not path.is_file():
        parts = [
            certes.restore(
                chunk, task.operator, model, noise=task.noise, samples=SAMPLES, steps=STEPS
            )
            for chunk in track(y.split(4), f"{case.model} {task.name}")
        ]
        posterior = join(parts)
        raw = posterior.bounds(ALPHA)
        tensors = {"lower": raw.lower, "estimate": raw.estimate, "upper": raw.upper}
        tensors = {**tensors, "best": posterior.estimate.clone()}
        made = {"provenance": json.dumps(asdict(raw.provenance))}
        write_tensors(path, tensors, made)
    kept, made = read_tensors(path), json.loads(read_header(path)["provenance"])
    ends = (kept["lower"], kept["estimate"], kept["upper"])
    return Restored(Bounds(*ends, Provenance(**made)), kept["best"])


@cache
def loaded(name: str) -> Prior:
    return certes.load(name)


def task_named(name: str) -> Task:
    return JPEG if name == "jpeg" else next(task for task in tasks() if task.name == name)


def simple(task: Task, train: Tensor, x: Tensor, y: Tensor) -> tuple[str, float]:
    """The best classical method and its PSNR."""
    if isinstance(task.operator, Jpeg):
        return deblocking.best_classical(task.operator, train, x)
    return best_classical(task, train, x, y)


def judge(case: Case, report: Report, ship: bool) -> None:
    """Every task of a model: PSNR beside the best classical one, and the card's risk."""
    truth, train = case.truth(), case.train()
    scores: dict[str, float] = {}
    others: dict[str, str] = {}
    risks: dict[str, float] = {}
    fitted = Fitted.load(BUNDLED / case.model)
    assert fitted is not None
    check_unseen(fitted, truth, [str(i) for i in range(len(truth))])
    for task in map(task_named, case.tasks):
        y = degrade(truth, task.operator, task.noise, seed=0)
        found = restored(case, task, y)
        card, risk = case.judge(found.bounds, truth)
        x = truth[case.held]
        scores[task.name] = round(float(psnr(found.estimate[case.held], x).mean()), 2)
        name, classical = simple(task, train, x, y[case.held])
        others[task.name] = f"{classical:.2f} ({name})"
        gain = scores[task.name] - classical
        report.claim(
            f"{case.model}, {task.name}: PSNR {scores[task.name]:.2f} dB, over the best classical "
            f"method ({name}, {classical:.2f})",
            round(gain, 2),
            "above 0",
            gain > 0,
        )
        risks[task.name] = round(risk, 4)
        width = float(card(found.bounds).width.mean())
        report.claim(
            f"{case.model}, {task.name}: held-out risk of the card (rule {card.rule}, n = {card.n},"
            f" lambda {card.size:.2f}, width {width:.4f})",
            round(risk, 4),
            f"at most {ALPHA}",
            risk <= ALPHA,
        )
        if ship:
            card.save(BUNDLED / case.model / "cards" / f"{task.name}.json")
    if ship:
        add_to_card(
            case.model,
            scores={
                "pictures": case.told,
                "psnr": scores,
                "psnr_best_classical": others,
                "risk": risks,
            },
        )


def sizes(name: str, folder: Path, report: Report, ship: bool) -> None:
    """The error of the same pixels, cut into tiles of several sizes."""
    every = [p for p in load_folder(folder, grey=True) if min(p.shape[1:]) >= WHOLE]
    whole = torch.stack([centre(p) for p in every]).float() / 255
    noisy = whole + LEVEL * torch.randn(whole.shape, generator=torch.Generator().manual_seed(0))
    errors = {tile: tile_error(loaded(name), noisy, whole, tile) for tile in TILES}
    told = {str(tile): round(error / errors[SIDE], 4) for tile, error in errors.items()}
    report.claim(
        f"{name}: error of denoising {len(whole)} pictures in tiles, relative to tiles of {SIDE}",
        told,
        f"at most 1.01 in tiles larger than {SIDE}",
        all(errors[tile] <= 1.01 * errors[SIDE] for tile in TILES if tile > SIDE),
    )
    if ship:
        add_to_card(
            name,
            picture_sizes={"pictures": len(whole), "noise": LEVEL, "relative_error": told},
        )


def tile_error(model: Prior, noisy: Tensor, truth: Tensor, tile: int) -> float:
    """Mean squared error of one network call a tile."""

    def tiles(x: Tensor) -> Tensor:
        return x.unfold(2, tile, tile).unfold(3, tile, tile).reshape(-1, 1, tile, tile)

    at_once = max(1, 4 * WHOLE**2 // tile**2)
    error = torch.zeros((), dtype=torch.float64)
    for x, x0 in zip(tiles(noisy).split(at_once), tiles(truth).split(at_once), strict=True):
        mean = model(x, torch.full((len(x),), LEVEL)).mean
        error += (mean - x0).double().square().sum()
    return float(error / truth.numel())


def centre(picture: Tensor) -> Tensor:
    top, left = ((side - WHOLE) // 2 for side in picture.shape[1:])
    return picture[:, top : top + WHOLE, left : left + WHOLE]


def function_rates(report: Report, ship: bool) -> None:
    """What chains of the model of functions spend, at the pitch of its training pictures."""
    data = PatchDataset(load_folder(SHARED / "nuclei/train/images", grey=True), SIDE)
    patches = data.batch(FRESH, SPECTRUM_PATCHES, seed=0)
    rates = measure_rates(certes.load("nuclei-functions", dtype=torch.float32), patches)
    lossless = float((rates.rate(rates.levels) + rates.tail_at(rates.levels)).min())
    report.claim(
        "nuclei-functions: expected bits per pixel, down to noise .1 and .03, and for all of a "
        "picture of 8 bits",
        [round(float(rates.rate(level)), 4) for level in (0.1, 0.03)] + [round(lossless, 4)],
        "told; all below 8",
        lossless < 8,
    )
    if ship:
        write_json(BUNDLED / "nuclei-functions" / RATES, rates.to_dict())


def add_to_card(name: str, **more: object) -> None:
    path = BUNDLED / name / CARD
    write_json(path, {**read_json(path), **more})


def keep_others(report: Report, wanted: list[str]) -> None:
    """What earlier runs measured of models that are not asked for."""
    path = HERE / "results" / f"{report.name}.json"
    for claim in read_json(path)["claims"] if path.is_file() else []:
        if claim["claim"].split(":")[0].split(",")[0] not in wanted:
            report.claim(claim["claim"], claim["measured"], claim["target"], claim["holds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", help="all by default")
    parser.add_argument("--ship", action="store_true", help="write into the models' folders")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    report = Report("model_scores")
    wanted = arguments.models or ["nuclei", "nuclei-functions", "photo-grey"]
    keep_others(report, wanted)
    for name, folder in WHOLES.items():
        if name in wanted:
            sizes(name, folder, report, arguments.ship)
    for case in CASES:
        if case.model in wanted:
            judge(case, report, arguments.ship)
    if "nuclei-functions" in wanted:
        function_rates(report, arguments.ship)
    report.save()


if __name__ == "__main__":
    main()
