"""What Infinity-Diff's choices are worth on real pictures: the shape of the paper's tables 2 and 3.

    python benchmarks/function_ablation.py [NAME ...]

Nuclei, 32 x 32 training pixels, one network shape (U-Net of 32 and 64 channels on a 16 x 16 grid,
one token block before it and one after, 32 channels), 2500 steps of 16 patches: some five minutes
of one CPU core each. Varied, one at a time: the share of the coordinates that a step looks at, how
they are chosen, the mollifier (none: white-noise diffusion), and kernels for each channel or for
each pair of channels. All are judged on all pixels:

- denoising of held-out crops at three noise levels, PSNR in dB, at the training resolution;
- Frechet and kernel distance (features of the bundled model of nuclei, no FID) of 256 drawn
  pictures to held-out crops, drawn at the training resolution, and some at twice that and averaged;
- seconds of a training step as a ratio to that of all coordinates.

With names as arguments only these are judged; what was trained and judged is kept in the cache.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import torch
from _functions import (
    REAL,
    RUNS,
    Distance,
    averaged,
    distance,
    held_out,
    kept_pictures,
    training_pictures,
)
from _report import Report
from torch import Tensor

from certes.data.files import write_json
from certes.data.patches import PatchDataset
from certes.evaluation.metrics import psnr
from certes.function_space.denoiser import FunctionDenoiser
from certes.function_space.filter_measuring import measure_filter
from certes.function_space.presets import operator_keys
from certes.function_space.recipe import FunctionRecipe
from certes.function_space.sampling import sample_functions
from certes.function_space.training_config import FunctionConfig
from certes.training.loop import Run

SIZE, DRAWN = 32, 256
FINER = ("share-25", "share-100", "white-noise")
"""Whose functions are drawn twice as fine, too."""
LEVELS = (0.05, 0.1, 0.2)
_NETWORK = operator_keys(SIZE, [32, 64], grid=32, blocks=1)
BASE = FunctionConfig(
    network=_NETWORK,
    patch=SIZE,
    batch=16,
    steps=2500,
    warmup=200,
    center=0.08,
    scale=0.15,
    checkpoint_every=250,
    sample_every=2500,
)
VARIED: dict[str, dict[str, Any]] = {
    "share-25": {},
    "white-noise": {"mollifier_width": 0.0},
    "share-100": {"share": 1.0},
    "share-12": {"share": 0.125},
    "share-6": {"share": 0.0625},
    "full-kernels": {"network": {**_NETWORK, "convolution": "full"}},
    "low-discrepancy": {"sequence": "low-discrepancy"},
}


def recipe(name: str) -> FunctionRecipe:
    return FunctionRecipe(replace(BASE, **VARIED[name]))


def patches() -> PatchDataset:
    config = BASE
    return PatchDataset(training_pictures(), SIZE, config.busy, symmetries=config.symmetries)


def trained(name: str) -> FunctionDenoiser:
    """With averaged weights and its filter, trained now or before."""
    made, data = recipe(name), patches()
    run = Run(made, data, RUNS / name, resume=True)
    denoiser = run.averaged() if run.step == made.config.steps else run.train()
    denoiser.unmollify = measure_filter(denoiser, data.batch(2**31, 64, 0))
    return denoiser


def seconds(name: str) -> float:
    """Of a training step, the least of some."""
    made, data = recipe(name), patches()
    made = FunctionRecipe(replace(made.config, steps=6, checkpoint_every=99, sample_every=99))
    with TemporaryDirectory() as out:
        return fastest(Run(made, data, Path(out), resume=False))


def fastest(run: Run[FunctionDenoiser]) -> float:
    """Of the steps of a run."""
    start, times = perf_counter(), list[float]()
    for _ in run.steps():
        start, before = perf_counter(), start
        times.append(start - before)
    return min(times)


def denoised(denoiser: FunctionDenoiser, x: Tensor, level: float) -> float:
    """PSNR of one call."""
    noisy = x + level * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    return float(psnr(denoiser(noisy, torch.full((len(x),), level)).mean, x).mean())


def drawn(name: str, denoiser: FunctionDenoiser, finer: int) -> Tensor:
    """Pictures, those of higher resolution averaged; the same functions at every resolution."""
    side = SIZE * finer
    pictures = kept_pictures(
        f"{name}-{side}", lambda: sample_functions(denoiser, (side, side), 1 / finer, DRAWN)
    )
    return averaged(pictures, SIZE)


def judge(name: str) -> dict[str, Any]:
    denoiser, real = trained(name), held_out(REAL, SIZE)
    finer = distance(drawn(name, denoiser, 2), real) if name in FINER else None
    return {
        "psnr": [denoised(denoiser, real[:128], level) for level in LEVELS],
        "distance": vars(distance(drawn(name, denoiser, 1), real)),
        "finer": None if finer is None else vars(finer),
        "parameters": sum(p.numel() for p in denoiser.net.parameters()),
    }


def kept(name: str) -> dict[str, Any]:
    path = RUNS / f"{name}.json"
    if not path.is_file():
        write_json(path, judge(name))
    return json.loads(path.read_text())


def main() -> None:
    torch.set_num_threads(1)
    names = sys.argv[1:] or [*VARIED]
    table = {name: kept(name) for name in names}
    if sys.argv[1:]:
        print(json.dumps(table, indent=1))
        return
    report, base = Report("function_ablation"), table["share-25"]
    times = {name: seconds(name) for name in VARIED}
    for name, row in table.items():
        finer = "not drawn" if row["finer"] is None else str(Distance(**row["finer"]))
        levels = ", ".join(f"{value:.2f}" for value in row["psnr"])
        report.claim(
            f"{name}: PSNR of one call at noise {LEVELS}; Frechet distance; the same drawn twice "
            "as fine; seconds of a step over those of share-100; million parameters",
            f"{levels} dB; {Distance(**row['distance'])}; {finer}; "
            f"{times[name] / times['share-100']:.2f}; {row['parameters'] / 1e6:.2f}",
            "told as they are",
            True,
        )
    others = held_out(REAL + DRAWN, SIZE)
    floor = distance(others[REAL:], others[:REAL])
    report.claim("Frechet distance of other held-out crops", str(floor), "told", True)
    _claims(report, table, base)
    report.save()


def _claims(report: Report, table: dict[str, Any], base: dict[str, Any]) -> None:
    """What the paper says of its own tables."""
    for name, text in (
        ("share-100", "a quarter of the coordinates is not worse than all of them"),
        ("white-noise", "with a mollifier is not worse than without"),
        ("full-kernels", "kernels for each channel are not worse than for each pair"),
    ):
        ours, theirs = (Distance(**row["distance"]) for row in (base, table[name]))
        gap = 1e3 * (ours.kernel - theirs.kernel)
        most = 2e3 * (ours.kernel_error**2 + theirs.kernel_error**2) ** 0.5
        report.claim(
            f"{text}: kernel distances, times .001, within two standard errors",
            round(gap, 2),
            f"<= {most:.2f}",
            gap <= most,
        )
    for name, least in (("share-12", 1.0), ("share-6", 2.0)):
        loss = max(a - b for a, b in zip(base["psnr"], table[name]["psnr"], strict=True))
        report.claim(f"{name}: dB lost to share-25", round(loss, 2), f"<= {least:g}", loss <= least)


if __name__ == "__main__":
    main()
