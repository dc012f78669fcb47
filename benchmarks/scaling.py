"""What many pictures cost: measured on one core with a few of them, computed for up to 10^9.

    python benchmarks/scaling.py             # measures (some ten minutes), writes the page's tables
    python benchmarks/scaling.py --tables    # writes docs/scaling.md anew from the last measurement

Measured are CPU seconds (user and system time, so that other work on the machine counts little),
peak memory and files of `certes restore` in a process with one thread; CPU seconds of bounds in one
pass; floating-point operations of the network; size and time of tallies and manifests. Whether the
cost is in proportion to samples and to pixels, which all that is computed assumes, is measured too.
No GPU was measured: what is said of GPUs comes from the operations and an assumed utilisation.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from _report import HERE, Report

SIDE, SAMPLES, STEPS = 256, 16, 20
CALLS = SAMPLES * STEPS
PAGE = HERE.parent / "docs" / "scaling.md"
BEGIN, END = "<!-- tables: benchmarks/scaling.py -->", "<!-- end of tables -->"

# An NVIDIA H100 SXM in bfloat16 without sparsity, by its data sheet.
PEAK = 989e12
UTILISATIONS = (0.02, 0.05, 0.20)
ASSUMED = 0.05
WEEK = 7 * 24  # hours
POWERS = (3, 4, 5, 6, 7, 8, 9)

# What the tables are computed from: the claims of the result file.
SAMPLED = f"CPU seconds of a picture, {SIDE}x{SIDE}, {SAMPLES} samples, {STEPS} steps, one core"
REST = "CPU seconds of the files of a picture: reading, writing, the panel"
START = "CPU seconds of a process before its first picture"
PASS = f"CPU seconds of bounds in one pass, {SIDE}x{SIDE}, without reading and writing"
MEMORY = "MiB of memory of a process at its peak"
FLOPS = f"floating-point operations of a network call, {SIDE}x{SIDE}, 1e9"
RESTORED = "bytes of a restored picture, 8-bit PNG"
INTERVALS = "bytes of its intervals, float32 TIFF"
PANEL = "bytes of its panel"
INPUT = "bytes of the picture itself, 8-bit PNG"
TALLY = "bytes of a tally for each picture, histograms"
TALLIED = "CPU seconds to tally 1000 pictures"
MERGED = "CPU seconds to merge ten tallies of 100 pictures from their files, and to calibrate"
ROW = "bytes of a manifest for each picture"
MILLION = "CPU seconds to write and read a manifest of a million rows"


@dataclass(frozen=True)
class Usage:
    """What a process took."""

    seconds: float
    mebibytes: float


def restored(folder: Path, out: Path, samples: int, steps: int) -> Usage:
    """`certes restore` on all pictures of a folder, in a process with one thread."""
    command = [
        sys.executable, "-m", "certes", "restore", str(folder), "--task", "denoise", "--noise",
        "0.1", "--samples", str(samples), "--steps", str(steps), "--out", str(out), "--json",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"certes restore ended with status {status}")
    return Usage(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def pictures(folder: Path, count: int) -> Path:
    """A folder with noisy copies of some of the bundled pictures."""
    from certes.data import bundled

    source = Path(bundled.__file__).parent / "bundled" / "nuclei"
    names = [str(path) for path in sorted(source.glob("*.png"))[:count]]
    command = [sys.executable, "-m", "certes", "degrade", *names, "--task", "denoise", "--png"]
    subprocess.run([*command, "--out", str(folder), "--json"], check=True, capture_output=True)
    return folder


def of_commands(report: Report, work: Path) -> None:
    """CPU seconds, memory and files of the command."""
    one, two, six = (pictures(work / f"in-{n}", n) for n in (1, 2, 6))
    restored(one, work / "warm", 2, 1)  # what follows finds all files in memory
    first = restored(one, work / "first", SAMPLES, STEPS)
    both = restored(two, work / "both", SAMPLES, STEPS)
    each = both.seconds - first.seconds
    tell(report, SAMPLED, each)
    few, some = (restored(f, work / f"few-{f.name}", 2, 1) for f in (one, six))
    call = of_network(report)
    tell(report, REST, (some.seconds - few.seconds) / 5 - 2 * call)
    tell(report, START, first.seconds - each)
    report.claim(MEMORY, round(both.mebibytes), "at most 2048", both.mebibytes <= 2048)
    for text, pattern in ((RESTORED, "restored.png"), (INTERVALS, "tif"), (PANEL, "panel.png")):
        tell(report, text, mean_size(work / "both", pattern))
    tell(report, INPUT, mean_size(two, "png"))


def mean_size(folder: Path, ending: str) -> float:
    sizes = [path.stat().st_size for path in folder.glob(f"*.{ending}")]
    return sum(sizes) / len(sizes)


def of_network(report: Report) -> float:
    """Operations of a call, bounds in one pass, proportions; returns CPU seconds of a call."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    import certes
    from certes.conditional.one_pass.model import one_pass_model
    from certes.conditional.one_pass.starts import from_pictures
    from certes.conditional.tasks import Denoising
    from certes.data.bundled import bundled_pictures
    from certes.data.mosaic import mosaic
    from certes.networks.model import Model

    torch.set_num_threads(1)
    model = certes.load("nuclei", device="cpu")
    assert isinstance(model, Model)
    x = torch.stack([picture.pixels for picture in bundled_pictures()[:4]])
    sigma = torch.full((16,), 0.1)
    stack = x[:1].repeat(16, 1, 1, 1)
    with FlopCounterMode(display=False) as counter:
        model(x[:1], sigma[:1])
    tell(report, FLOPS, counter.get_total_flops() / 1e9)
    call = quickest(lambda: model(stack, sigma)) / len(stack)

    single = certes.load("nuclei", device="cpu", dtype=torch.float32)  # as models of bounds run
    assert isinstance(single, Model)
    recipe = from_pictures(single, Denoising(noise=0.1), 0.1)
    bounds = one_pass_model(recipe.start, recipe, "untrained")
    tell(report, PASS, quickest(lambda: bounds(x)) / len(x))

    noisy = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))

    def restore(y: torch.Tensor, samples: int) -> Callable[[], object]:
        operator = certes.operators.Denoise((1, y.shape[-2], y.shape[-1]))
        return lambda: certes.restore(y, operator, model, noise=0.1, samples=samples, steps=2)

    large = mosaic(noisy, columns=2, gap=0)[None]
    base = quickest(restore(noisy[:1], 4))
    for text, job in (
        ("CPU seconds of 16 samples over 4 times those of 4", restore(noisy[:1], 16)),
        ("CPU seconds of 512x512 pixels over 4 times those of 256x256", restore(large, 4)),
    ):
        ratio = quickest(job) / (4 * base)
        report.claim(text, round(ratio, 3), "1 within .15", abs(ratio - 1) <= 0.15)
    return call


def quickest(job: Callable[[], object], repeats: int = 3) -> float:
    """CPU seconds of the quickest run."""
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        job()
        taken.append(time.process_time() - start)
    return min(taken)


def of_tallies(report: Report, work: Path) -> None:
    """What distributed calibration keeps and takes: ten workers, a hundred pictures each."""
    import torch

    from certes.intervals import Bounds, Tally

    def part(seed: int) -> tuple[Bounds, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        estimate = torch.rand(100, 1, SIDE, SIDE, generator=generator)
        half = 0.01 + 0.05 * torch.rand(estimate.shape, generator=generator)
        error = half / 1.645 * torch.randn(estimate.shape, generator=generator)
        return Bounds(estimate - half, estimate, estimate + half), (estimate + error).clamp(0, 1)

    taken = 0.0
    for seed in range(10):
        bounds, truth = part(seed)
        start = time.process_time()
        Tally(memory=0).add(bounds, truth).save(work / f"{seed}.tally")
        taken += time.process_time() - start
    tell(report, TALLY, sum((work / f"{seed}.tally").stat().st_size for seed in range(10)) / 1000)
    tell(report, TALLIED, taken)

    def merge() -> object:
        merged = Tally.load(work / "0.tally")
        for seed in range(1, 10):
            merged.merge(Tally.load(work / f"{seed}.tally"))
        return merged.calibrate()

    tell(report, MERGED, quickest(merge))


def of_manifest(report: Report, work: Path) -> None:
    """A Parquet file with a row for each picture: name, state, and four numbers."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, path = 10**6, work / "manifest.parquet"
    numbers = np.random.default_rng(0).random((4, rows))
    start = time.process_time()
    table = pa.table({
        "picture": [f"plate-{i // 384:05d}/well-{i % 384:03d}.png" for i in range(rows)],
        "status": ["done"] * rows,
        "error": pa.array([None] * rows, pa.string()),
        **dict(zip(("seconds", "mean_width", "coverage", "noise"), numbers, strict=True)),
    })  # fmt: skip
    pq.write_table(table, path)
    pq.read_table(path)
    tell(report, MILLION, time.process_time() - start)
    tell(report, ROW, path.stat().st_size / rows)


def tell(report: Report, text: str, measured: float) -> None:
    """A measurement without a target."""
    report.claim(text, float(f"{measured:.4g}"), "told", True)


def tables(told: Mapping[str, float]) -> str:
    """The page's tables, from the measurements alone."""
    return "\n\n".join((measured_table(told), speed_table(told), cluster_table(told)))


def measured_table(told: Mapping[str, float]) -> str:
    rows = [f"| {text} | {number(value)} |" for text, value in told.items()]
    return "\n".join(("| measured | |", "|---|---|", *rows))


def operations(told: Mapping[str, float], calls: int) -> float:
    return told[FLOPS] * 1e9 * calls


def core_seconds(told: Mapping[str, float], sampled: bool) -> float:
    """CPU seconds of a picture, files included."""
    return told[SAMPLED] if sampled else told[PASS] + told[REST]


def gpu_seconds(told: Mapping[str, float], sampled: bool, utilisation: float) -> float:
    """Seconds of the network on the GPU."""
    return operations(told, CALLS if sampled else 1) / (PEAK * utilisation)


def speed_table(told: Mapping[str, float]) -> str:
    """Pictures an hour."""
    shares = [f"a GPU-hour at {share:.0%}" for share in UTILISATIONS]
    head = [
        "answers",
        "operations",
        "a core-hour",
        *shares,
        f"cores beside the GPU at {ASSUMED:.0%}",
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, sampled in ((f"{SAMPLES} samples, {STEPS} steps", True), ("one pass", False)):
        cells = [name, number(operations(told, CALLS if sampled else 1) / 1e12) + "e12"]
        cells.append(number(3600 / core_seconds(told, sampled)))
        cells += [number(3600 / gpu_seconds(told, sampled, share)) for share in UTILISATIONS]
        cells.append(number(told[REST] / gpu_seconds(told, sampled, ASSUMED)))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cluster_table(told: Mapping[str, float]) -> str:
    """What it takes to be done within a week."""
    head = [
        "pictures", "samples: core-hours", "cores", "GPUs", "one pass: core-hours", "cores",
        "results with panels", "without", "manifest",
    ]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    results = told[RESTORED] + told[INTERVALS]
    for power in POWERS:
        count, cells = 10**power, [f"10^{power}^"]
        hours = count * core_seconds(told, True) / 3600
        cells += [number(hours), whole(hours / WEEK)]
        cells.append(whole(count * gpu_seconds(told, True, ASSUMED) / 3600 / WEEK))
        hours = count * core_seconds(told, False) / 3600
        cells += [number(hours), whole(hours / WEEK)]
        cells += [volume(count * (results + told[PANEL])), volume(count * results)]
        cells.append(volume(count * told[ROW]))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def number(value: float) -> str:
    """Three digits, thousands apart."""
    if value >= 1000:
        digits = 3 - math.ceil(math.log10(value))
        return f"{round(value, digits):,.0f}".replace(",", " ")
    return f"{value:.3g}"


def whole(value: float) -> str:
    return number(math.ceil(value))


def volume(size: float) -> str:
    """Bytes in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} PB"


def write_page(told: Mapping[str, float]) -> None:
    """Put the tables between their marks."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{tables(told)}\n\n{END}{after}", encoding="utf-8")


def last_measurement() -> dict[str, float]:
    """What the result file says."""
    result = json.loads((HERE / "results" / "scaling.json").read_text(encoding="utf-8"))
    return {claim["claim"]: claim["measured"] for claim in result["claims"]}


def main() -> None:
    parser = argparse.ArgumentParser(description="what many pictures cost")
    parser.add_argument("--tables", action="store_true", help="from the last measurement")
    if not parser.parse_args().tables:
        report = Report("scaling")
        with tempfile.TemporaryDirectory() as work:
            of_commands(report, Path(work))
            of_tallies(report, Path(work))
            of_manifest(report, Path(work))
        report.save()
    write_page(last_measurement())


if __name__ == "__main__":
    main()
