"""How long does calibration take? Beside a grid of 1000 sizes, and of 1000 large images.

    python benchmarks/calibration_speed.py

The grid loop is the published one (Conffusion, im2im-uq): for each size, from the largest down,
build all intervals, compare, average, stop at the first that fails. Here it gets the valid limit
for free and keeps everything in memory, so the two must agree to a grid step.

The loop sees 200 images of 3x128x128, as does certes beside it. Then 1000 images of 3x256x256 are
streamed through a tally in a process of its own, whose peak memory is read; making the pictures is
not part of the time.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import torch
from _report import Report
from torch import Tensor

from certes.intervals import Bounds, Tally, calibrate
from certes.intervals.rules import HoeffdingBentkus

IMAGES, SIDE = 200, 128
GRID = torch.linspace(0, 6, 1000).tolist()
STREAMED, STREAMED_SIDE, BATCH = 1000, 256, 20


def pictures(images: int, side: int, seed: int = 0) -> tuple[Bounds, Tensor]:
    """Estimates whose errors are Gaussian, with a scale that varies by pixel and by image."""
    generator = torch.Generator().manual_seed(seed)
    estimate = torch.rand(images, 3, side, side, generator=generator)
    half = 0.01 + 0.05 * torch.rand(estimate.shape, generator=generator)
    scale = torch.exp(0.3 * torch.randn(images, 1, 1, 1, generator=generator))
    error = scale * half / 1.645 * torch.randn(estimate.shape, generator=generator)
    return Bounds(estimate - half, estimate, estimate + half), (estimate + error).clamp(0, 1)


def grid_loop(bounds: Bounds, truth: Tensor) -> float:
    """Smallest size on the grid down to which the mean risk stays within its limit."""
    limit = HoeffdingBentkus().largest_mean(IMAGES, 0.1, 0.1)
    passed = GRID[-1]
    for size in reversed(GRID):
        lower = bounds.estimate - size * (bounds.estimate - bounds.lower)
        upper = bounds.estimate + size * (bounds.upper - bounds.estimate)
        if float(((truth < lower) | (truth > upper)).float().mean()) > limit:
            break
        passed = size
    return passed


def timed(job: Callable[[], float]) -> tuple[float, float]:
    start = time.perf_counter()
    answer = job()
    return answer, time.perf_counter() - start


def batches() -> Iterator[tuple[Bounds, Tensor]]:
    """The large pictures, made as they are needed."""
    for seed in range(STREAMED // BATCH):
        yield pictures(BATCH, STREAMED_SIDE, seed)


def stream() -> None:
    """Calibrate on the large pictures and print, as JSON, lambda, seconds and peak memory."""
    tally, seconds = Tally(), 0.0
    for bounds, truth in batches():
        start = time.perf_counter()
        tally.add(bounds, truth)
        seconds += time.perf_counter() - start
    start = time.perf_counter()
    card = tally.calibrate()
    seconds += time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"lambda": card.size, "seconds": seconds, "MiB": peak, "exact": card.exact}))


def compare(report: Report) -> float:
    """Both on the same images; returns the seconds that the grid loop took."""
    bounds, truth = pictures(IMAGES, SIDE)
    print(f"{IMAGES} images of 3x{SIDE}x{SIDE}, {torch.get_num_threads()} threads")
    print("procedure                     lambda   seconds")
    answers: dict[str, tuple[float, float]] = {}
    jobs: dict[str, Callable[[], float]] = {
        "certes, wsr": lambda: calibrate(bounds, truth, rule="wsr").size,
        "certes, hb": lambda: calibrate(bounds, truth, rule="hb").size,
        "certes, hb, streamed": lambda: (
            Tally(memory=0).add(bounds, truth).calibrate(rule="hb").size
        ),
        "grid of 1000, hb": lambda: grid_loop(bounds, truth),
    }
    for name, job in jobs.items():
        answers[name] = timed(job)
        print(f"{name:28s} {answers[name][0]:7.4f} {answers[name][1]:9.2f}", flush=True)
    slowest = max(answers["certes, wsr"][1], answers["certes, hb"][1])
    loop = answers["grid of 1000, hb"][1]
    report.claim(
        f"seconds to calibrate {IMAGES} images of 3x{SIDE}x{SIDE} (slower of wsr and hb)",
        round(slowest, 3),
        "under 1",
        slowest < 1,
    )
    report.claim(
        f"times faster than the grid loop ({loop:.1f} s) on the same images",
        round(loop / slowest, 1),
        "at least 50",
        loop >= 50 * slowest,
    )
    step = GRID[1] - GRID[0]
    gap = answers["grid of 1000, hb"][0] - answers["certes, hb"][0]
    report.claim(
        "lambda of the grid loop less the exact one, in grid steps (both hb)",
        round(gap / step, 3),
        "0 to 1",
        -1e-3 <= gap / step <= 1,
    )
    excess = answers["certes, hb, streamed"][0] / answers["certes, hb"][0] - 1
    report.claim(
        "lambda from histograms over the exact one, less 1 (both hb)",
        round(excess, 5),
        "0 to 0.008",
        0 <= excess <= 0.008,
    )
    return loop


def main() -> None:
    report = Report("calibration_speed")
    loop = compare(report)
    command = [sys.executable, __file__, "--stream"]
    made = subprocess.run(command, check=True, capture_output=True, text=True)
    streamed = json.loads(made.stdout)
    print(f"streamed: {streamed}")
    size = f"{STREAMED} images of 3x{STREAMED_SIDE}x{STREAMED_SIDE}"
    report.claim(
        f"seconds to calibrate {size} by streaming (wsr), without making them",
        round(streamed["seconds"], 2),
        "under 10",
        streamed["seconds"] < 10,
    )
    report.claim(
        "peak memory of that process, the pictures of one batch and torch included, MiB",
        round(streamed["MiB"]),
        "under 1000",
        streamed["MiB"] < 1000,
    )
    by_pixel = loop / (IMAGES * SIDE**2), streamed["seconds"] / (STREAMED * STREAMED_SIDE**2)
    report.claim(
        "times faster by the pixel than the grid loop, which at that rate would take"
        f" {by_pixel[0] * STREAMED * STREAMED_SIDE**2:.0f} s with all images in memory",
        round(by_pixel[0] / by_pixel[1], 1),
        "at least 20",
        by_pixel[0] >= 20 * by_pixel[1],
    )
    report.save()


if __name__ == "__main__":
    stream() if "--stream" in sys.argv else main()
