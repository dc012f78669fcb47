"""Five ways to a bound: the methods of Conffusion, trained and calibrated alike, on real pictures.

    python benchmarks/interval_methods.py [nuclei] [photos]

Super-resolution x4 and a square hole of a quarter of the picture, noise .02, alpha = delta = .1.
Pictures and their splits are told in `_interval_runs.py`. All methods of a kind of pictures have
networks of one size and learn bounds in 1000 steps of 16 patches (G-Conffusion on nuclei starts
from the bundled prior, whose network takes three times as long, and learns for 500). Of a hole only
its pixels count. Each method is calibrated by the betting rule; beside it stands the width under
Hoeffding-Bentkus, the rule that the Conffusion code means to use (it counts pixels as images, which
no guarantee allows).

52 pictures tell a risk of holes to within .04, and those that the demo shows are among them on
purpose. So all pictures are also split anew 200 times at random, of which the mean risk is told: a
description and no test, for the splits share their pictures.

Models and sampled bounds are kept in the cache; from scratch it takes some three hours of one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch
from _interval_runs import KINDS, RUNS, Method, conditional, one_pass
from _report import HERE, Report
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

import certes
from certes.conditional.tasks import Inpainting
from certes.data.mosaic import mosaic
from certes.data.pictures import Picture, write_picture
from certes.data.tensors import write_tensors
from certes.intervals.bounds import Bounds
from certes.intervals.critical import CriticalValues
from certes.intervals.families import family_named
from certes.intervals.rules import certify
from certes.networks.files import read_tensors

TASKS = ("super-resolve", "inpaint")
SAMPLES, STEPS, TIMED, SPLITS = 32, 20, 2, 200
N = "N-Conffusion"

ALWAYS = {
    N: ("n-conffusion", Method("conditional")),
    "ADM_UQ": ("adm-uq", Method("nothing")),
}
PHOTO_PRIOR = {"G-Conffusion": ("g-prior", Method("photos-prior"))}
LEARNED: dict[tuple[str, str], dict[str, tuple[str, Method]]] = {
    ("photos", "inpaint"): PHOTO_PRIOR,
    # Is diffusion pretraining necessary? The same network and the same learning.
    ("photos", "super-resolve"): {
        **PHOTO_PRIOR,
        "from a denoiser": ("g-denoiser", Method("photos-denoiser")),
        "from nothing": ("g-untrained", Method("photos-untrained")),
    },
} | {
    ("nuclei", task): {
        "DM_SBA": ("dm-sba", Method("conditional", "sampled")),
        # Of a network thrice as costly.
        "G-Conffusion": ("g-conffusion", Method("nuclei", steps=500)),
    }
    for task in TASKS
}
"""Where each method is kept, and how it learns."""
SAMPLED = ("nuclei",)
"""A thousand photographs would take an hour of one core for each task."""

Answer = Callable[[Tensor], Bounds]


@dataclass(frozen=True)
class Contender:
    """A method with its answers to conditions, and what they cost in network calls a picture."""

    name: str
    answer: Answer
    passes: int
    kept: str | None = None


def contenders(kind: str, task: str) -> Iterator[Contender]:
    """All methods for a task."""
    sampled = conditional(kind, task)

    def by_samples(y: Tensor) -> Bounds:
        posterior = certes.restore(
            y, model=sampled, samples=SAMPLES, steps=STEPS, keep_samples=False
        )
        return posterior.bounds(0.1)

    if kind in SAMPLED:
        kept = f"{kind}-{task}-sb-{sampled.hash}"
        yield Contender("DM_SB", by_samples, SAMPLES * STEPS, kept=kept)
    for name, (file, method) in (ALWAYS | LEARNED[kind, task]).items():
        yield Contender(name, one_pass(kind, task, file, method), 1)


def answers(contender: Contender, y: Tensor) -> Bounds:
    """Bounds of all conditions; those of samples are kept."""
    if contender.kept is None:
        return contender.answer(y)
    path = RUNS / "bounds" / f"{contender.kept}.safetensors"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        parts = [contender.answer(some) for some in track(y.split(8), contender.kept)]
        names = ("lower", "estimate", "upper")
        write_tensors(path, {n: torch.cat([getattr(p, n) for p in parts]) for n in names})
    return Bounds(**read_tensors(path))


def rows_of(bounds: Bounds, rows: slice) -> Bounds:
    return Bounds(bounds.lower[rows], bounds.estimate[rows], bounds.upper[rows])


def judge(kind: str, task: str, contender: Contender) -> dict[str, Any]:
    """Calibrate on one part of the test pictures, judge on the other."""
    pictures, made = KINDS[kind](), conditional(kind, task).task
    x = torch.cat([pictures.calibration, pictures.held])
    y = made.measure(x, torch.Generator().manual_seed(11))
    counted = ~y.isfinite() if isinstance(made, Inpainting) else None
    bounds, cut = answers(contender, y), len(pictures.calibration)
    known, new = slice(None, cut), slice(cut, None)

    def part(rows: slice) -> Tensor | None:
        return None if counted is None else counted[rows]

    result: dict[str, Any] = {"passes": contender.passes, "seconds": seconds(contender, y)}
    for rule in ("wsr", "hb"):
        card = certes.calibrate(
            rows_of(bounds, known), x[known], alpha=0.1, delta=0.1, rule=rule,
            counted=part(known),
        )  # fmt: skip
        interval = card(rows_of(bounds, new))
        scores = certes.evaluate(interval, x[new], counted=part(new))
        wanted = ("risk", "risk_interval", "width", "stratified_risk", "psnr")
        result[rule] = {name: scores[name] for name in wanted}
        result[rule]["lambda"] = card.size
    result["splits"] = resplit(bounds, x, counted, cut)
    raw = certes.evaluate(rows_of(bounds, new), x[new], counted=part(new))
    return {**result, "raw": {name: raw[name] for name in ("risk", "width")}}


def resplit(bounds: Bounds, x: Tensor, counted: Tensor | None, known: int) -> float:
    """Mean risk over random splits, each calibrated by the betting rule on as many pictures."""
    critical = family_named("scale").critical(bounds, x)
    masks = np.ones(x.shape, bool) if counted is None else counted.expand_as(x).numpy()
    pixels = [values[mask] for values, mask in zip(critical, masks, strict=True)]
    rng, risks = np.random.default_rng(0), list[float]()
    for seed in range(SPLITS):
        order = rng.permutation(len(pixels))
        units = CriticalValues.of_images([pixels[i] for i in order[:known]])
        size = certify(units.shuffled(seed), "wsr", 0.1, 0.1)
        risks.append(float(np.mean([(pixels[i] > size).mean() for i in order[known:]])))
    return float(np.mean(risks))


def seconds(contender: Contender, y: Tensor) -> float:
    """Of one picture, on this machine, by itself."""
    contender.answer(y[:1])
    start = perf_counter()
    for i in range(TIMED):
        contender.answer(y[i : i + 1])
    return (perf_counter() - start) / TIMED


def show(kind: str, task: str, results: dict[str, dict[str, Any]]) -> None:
    """Print the table of a task."""
    table = Table(
        "method", "risk", "95 %", "splits", "width", "width, hb", "risk by width, quartiles",
        "raw risk", "passes", "s", title=f"{kind}, {task}",
    )  # fmt: skip
    for name, r in results.items():
        wsr = r["wsr"]
        low, high = wsr["risk_interval"]
        strata = " ".join("-" if s is None else f"{s:.3f}" for s in wsr["stratified_risk"])
        table.add_row(
            name, f"{wsr['risk']:.4f}", f"{low:.3f}-{high:.3f}", f"{r['splits']:.4f}",
            f"{wsr['width']:.4f}", f"{r['hb']['width']:.4f}", strata, f"{r['raw']['risk']:.3f}",
            str(r["passes"]), f"{r['seconds']:.4f}",
        )  # fmt: skip
    Console(width=150).print(table)


def claim(kind: str, task: str, results: dict[str, dict[str, Any]], report: Report) -> None:
    """What was to be shown."""
    where = f"{kind}, {task}"
    for name, result in results.items():
        wsr, hb = result["wsr"], result["hb"]
        strata = ", ".join("-" if s is None else f"{s:.3f}" for s in wsr["stratified_risk"])
        report.claim(
            f"{where}, {name}: held-out risk (95 %: {wsr['risk_interval'][0]:.3f} to"
            f" {wsr['risk_interval'][1]:.3f}; mean over {SPLITS} random splits"
            f" {result['splits']:.4f}; width {wsr['width']:.4f}, with Hoeffding-Bentkus"
            f" {hb['width']:.4f}; risk by quartile of width {strata}; {result['passes']} network"
            f" calls, {result['seconds']:.3f} s)",
            round(wsr["risk"], 4),
            "at most .1",
            wsr["risk"] <= 0.1,
        )
    if kind in SAMPLED:
        saved = results["DM_SB"]["passes"] / results[N]["passes"]
        faster = results["DM_SB"]["seconds"] / results[N]["seconds"]
        report.claim(
            f"{where}: network passes of DM_SB for one of {N} (times the seconds: {faster:.0f})",
            saved,
            "at least 500",
            saved >= 500,
        )
    ours, scratch = (results[name]["wsr"]["width"] for name in (N, "ADM_UQ"))
    report.claim(
        f"{where}: width of {N} over that of ADM_UQ ({ours:.4f}, {scratch:.4f})",
        round(ours / scratch, 3),
        "below 1",
        ours < scratch,
    )
    published = results[N]["hb"]["width"]
    best = min(results, key=lambda name: results[name]["wsr"]["width"])
    narrowest = results[best]["wsr"]["width"]
    report.claim(
        f"{where}: width of the narrowest ({best}, betting: {narrowest:.4f}) over {N}'s with"
        f" Hoeffding-Bentkus ({published:.4f}); {N}'s own with betting: {ours / published:.3f}",
        round(narrowest / published, 3),
        "at most .9",
        narrowest <= 0.9 * published,
    )


def panel(kind: str, task: str) -> None:
    """Conditions, then bounds and widths of two methods, and truths, for a person to look at."""
    made, x = conditional(kind, task).task, KINDS[kind]().held[:6]
    y = made.measure(x, torch.Generator().manual_seed(5))
    shown = made.shown(y)[:, : x.shape[1]]
    gain = 2.5 if kind == "nuclei" else 1  # nuclei are dark
    rows = [shown, x]
    for name in (N, "ADM_UQ"):
        bounds = one_pass(kind, task, *ALWAYS[name])(y)
        rows += [bounds.lower, bounds.estimate, bounds.upper, 2 * bounds.width]
    columns = torch.stack(rows, dim=1).flatten(0, 1)
    grid = mosaic((gain * columns).clamp(0, 1), columns=len(rows))
    grid = grid.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    path = HERE / "results" / ".cache" / f"bounds-{kind}-{task}.png"
    write_picture(path, grid, Picture(path.stem, grid, None, "uint8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], help="default: all")
    kinds = parser.parse_args().kinds or list(KINDS)
    torch.set_num_threads(1)
    report = Report("interval_methods")
    for kind in kinds:
        for task in TASKS:
            results = {c.name: judge(kind, task, c) for c in contenders(kind, task)}
            show(kind, task, results)
            claim(kind, task, results, report)
            panel(kind, task)
    report.save()


if __name__ == "__main__":
    main()
