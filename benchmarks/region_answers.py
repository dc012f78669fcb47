"""Answers about nuclei in restored pictures: intensity, area and number, with intervals that hold.

    python benchmarks/region_answers.py [--data ../shared/data/nuclei]

The pictures, their split and the sampler are those of `restoration_quality`: the busiest 64x64 crop
of every test picture, 70 to calibrate with, 52 held out; K = 16 samples of 20 network calls. Truths
come from the label maps that people drew: the mean intensity of the labelled nuclei in the true
picture, the share of the picture that they cover, and their number. The restored pictures know no
labels but the region whose intensity is asked for; areas and numbers are those of the segmentation
of every sample by Otsu's threshold.

Three intervals, alpha = .1: what the samples say (their order statistics, without calibration);
one restoration, measured, and the calibration errors' quantile about it (split conformal of
constant width: what one would do without samples); and `certes.intervals.answers`. The second is
also done with the true pictures in place of restorations: the width that is left then is no fault
of the degradation, but the disagreement of Otsu's threshold with people.

52 pictures tell a coverage to within .08. Besides, all 122 are split anew 200 times; that is a
description, not a test, for the splits share their pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from _report import HERE, Report
from jaxtyping import Float64, Int
from numpy import ndarray
from PIL import Image
from restoration_quality import CALIBRATION_SHARE, SIDE, Task, pictures, run, split, tasks
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file, save_file

import certes
from certes.data.pictures import read_picture
from certes.intervals.answers import SCORES, calibrate_answers
from certes.intervals.measures import Measure, area, mean_intensity, objects
from certes.intervals.quantiles import order_statistic
from certes.networks.model import Model
from certes.restoration.degradations import degrade

TASKS = ("super-resolve", "denoise")
ALPHA, SPLITS = 0.1, 200
SPECK = 8  # pixels: smaller bright spots are noise, and are no nuclei
CACHE = HERE / "results/.cache/answers"

Numbers = Float64[ndarray, " b"]


@dataclass(frozen=True)
class Question:
    """What is asked about every picture: what its samples, its one restoration and the true picture
    answer, and the truth.
    """

    measure: Measure
    values: Float64[ndarray, "k b"]
    restored: Numbers
    undegraded: Numbers
    truth: Numbers


@dataclass(frozen=True)
class Interval:
    """What came of one way to make intervals."""

    covered: float
    width: float


def labels_of(data: Path, names: list[str]) -> Int[ndarray, "b h w"]:
    """The label maps of the crops that `restoration_quality.pictures` takes."""
    return np.stack([_labels(data, name) for name in names])


def _labels(data: Path, name: str) -> Int[ndarray, "h w"]:
    picture = read_picture(data / "images" / f"{name}.png").pixels[0]
    labels = np.array(Image.open(data / "labels" / f"{name}.png")).astype(np.int32)
    windows = picture.unfold(0, SIDE, 16).unfold(1, SIDE, 16)
    row, column = divmod(int(windows.std(dim=(2, 3)).argmax()), windows.shape[1])
    return labels[row * 16 : row * 16 + SIDE, column * 16 : column * 16 + SIDE]


def samples_of(task: Task, x: torch.Tensor, model: Model) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples (K, B, 1, 64, 64) and restorations of all pictures; kept, for they take minutes."""
    path = CACHE / f"{task.name}-{model.hash}.safetensors"
    if not path.is_file():
        posterior = run(task, degrade(x, task.operator, task.noise, seed=0), model, "pinned")
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"samples": posterior.samples, "estimate": posterior.estimate}, path)
    kept = load_file(path)
    return kept["samples"], kept["estimate"]


def questions(
    samples: torch.Tensor, restored: torch.Tensor, x: torch.Tensor, labels: Int[ndarray, "b h w"]
) -> Iterator[Question]:
    """The three of them, for all pictures."""
    nuclei = labels > 0
    counts = [sum(np.bincount(each.ravel())[1:] >= SPECK) for each in labels]
    intensity = mean_intensity(torch.from_numpy(nuclei)[:, None])
    for measure, truth in (
        (intensity, intensity(x)),
        (area(), nuclei.mean(axis=(1, 2))),
        (objects(smallest=SPECK), np.array(counts, float)),
    ):
        yield Question(measure, measure.of_samples(samples), measure(restored), measure(x), truth)


def judged(low: Numbers, high: Numbers, truth: Numbers) -> Interval:
    """Coverage and mean width."""
    return Interval(float(((low <= truth) & (truth <= high)).mean()), float((high - low).mean()))


def intervals(q: Question, known: list[int], new: list[int]) -> dict[str, Interval]:
    """Every way to make intervals, calibrated on some pictures and judged on others."""
    k = order_statistic(len(q.values), ALPHA)
    ordered, truth = np.sort(q.values, axis=0), q.truth[new]
    made = {
        "samples alone": judged(ordered[k - 1][new], ordered[-k][new], truth),
        "restored, then +-": constant(q.restored, q, known, new),
        "true picture, then +-": constant(q.undegraded, q, known, new),
    }
    for score in SCORES:
        card = calibrate_answers(
            q.values[:, known], q.truth[known], q.measure, alpha=ALPHA, score=score
        )
        answers = card(q.values[:, new], q.measure)
        made[f"certes, {score}"] = judged(answers.lower, answers.upper, truth)
    return made


def constant(answers: Numbers, q: Question, known: list[int], new: list[int]) -> Interval:
    """One answer, and the quantile of its errors on the known pictures to both sides."""
    errors = np.sort(np.abs(q.truth - answers)[known])
    half = errors[int(np.ceil((len(known) + 1) * (1 - ALPHA))) - 1]
    low, high = ((answers[new] + by).clip(*q.measure.limits) for by in (-half, half))
    return judged(low, high, q.truth[new])


def resplit(q: Question) -> dict[str, Interval]:
    """Means over random splits of all pictures."""
    rng, parts = np.random.default_rng(0), dict[str, list[Interval]]()
    for _ in range(SPLITS):
        order = rng.permutation(len(q.truth)).tolist()
        found = intervals(q, order[:CALIBRATION_SHARE], order[CALIBRATION_SHARE:])
        for name, interval in found.items():
            parts.setdefault(name, []).append(interval)
    return {
        name: Interval(
            float(np.mean([part.covered for part in each])),
            float(np.mean([part.width for part in each])),
        )
        for name, each in parts.items()
    }


def show(task: str, q: Question, once: dict[str, Interval], often: dict[str, Interval]) -> None:
    title = f"{task}: {q.measure.name} (mean {q.truth.mean():.3g})"
    table = Table("intervals", "covered", "width", "covered, 200 splits", "width", title=title)
    for name in once:
        row = (once[name].covered, once[name].width, often[name].covered, often[name].width)
        table.add_row(name, *(f"{value:.3f}" for value in row))
    Console(width=110).print(table)


def claim(
    task: str, q: Question, once: dict[str, Interval], often: dict[str, Interval], report: Report
) -> None:
    """Coverage on the 52, and width beside the alternative."""
    plain, raw = "restored, then +-", "samples alone"
    name = f"{task}, {q.measure.name}"
    for score in SCORES:
        ours = f"certes, {score}"
        report.claim(
            f"{name}: share of 52 held-out truths inside the interval, {score} ("
            f"{often[ours].covered:.3f} over 200 splits; samples alone "
            f"{once[raw].covered:.3f}, {often[raw].covered:.3f})",
            round(once[ours].covered, 3),
            "at least .9, less two standard errors of 52 (.083)",
            once[ours].covered >= 1 - ALPHA - 0.083,
        )
        ratio = often[ours].width / often[plain].width
        report.claim(
            f"{name}: width, {score}, over that of one restoration +- a constant, 200 splits",
            round(ratio, 3),
            "at most 1",
            ratio <= 1,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared/data/nuclei")
    data = parser.parse_args().data / "test"
    report, model = Report("region_answers"), certes.load("nuclei")
    names, x = pictures(data / "images")
    known, held = split(names)
    labels = labels_of(data, names)
    for task in sorted((t for t in tasks() if t.name in TASKS), key=lambda t: TASKS.index(t.name)):
        samples, restored = samples_of(task, x, model)
        for q in questions(samples, restored, x, labels):
            once, often = intervals(q, known, held), resplit(q)
            show(task.name, q, once, often)
            claim(task.name, q, once, often, report)
    report.save()


if __name__ == "__main__":
    main()
