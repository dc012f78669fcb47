"""How long does calibration take? 200 images of 3x128x128, beside a grid of 1000 sizes.

    python benchmarks/calibration_speed.py

The grid loop is the published one (Conffusion, im2im-uq): for each size, from the largest down,
build all intervals, compare, average, stop at the first that fails. Here it gets the valid limit
for free and keeps everything in memory, so the two must agree to a grid step.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from _report import Report
from torch import Tensor

from certes.intervals import Bounds, calibrate
from certes.intervals.rules import HoeffdingBentkus

IMAGES = 200
GRID = torch.linspace(0, 6, 1000).tolist()


def pictures() -> tuple[Bounds, Tensor]:
    """Estimates whose errors are Gaussian, with a scale that varies by pixel and by image."""
    generator = torch.Generator().manual_seed(0)
    estimate = torch.rand(IMAGES, 3, 128, 128, generator=generator)
    half = 0.01 + 0.05 * torch.rand(estimate.shape, generator=generator)
    scale = torch.exp(0.3 * torch.randn(IMAGES, 1, 1, 1, generator=generator))
    error = scale * half / 1.645 * torch.randn(estimate.shape, generator=generator)
    return Bounds(estimate - half, estimate, estimate + half), (estimate + error).clamp(0, 1)


def grid_loop(bounds: Bounds, truth: Tensor) -> float:
    """Smallest size on the grid down to which the mean risk stays within its limit."""
    limit = HoeffdingBentkus().largest_mean(IMAGES, 0.1, 0.1)
    assert limit is not None
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


def main() -> None:
    bounds, truth = pictures()
    print(f"{IMAGES} images of 3x128x128, {torch.get_num_threads()} threads")
    print("procedure                     lambda   seconds")
    answers: dict[str, tuple[float, float]] = {}
    jobs: dict[str, Callable[[], float]] = {
        "certes, wsr": lambda: calibrate(bounds, truth, rule="wsr").size,
        "certes, hb": lambda: calibrate(bounds, truth, rule="hb").size,
        "grid of 1000, hb": lambda: grid_loop(bounds, truth),
    }
    for name, job in jobs.items():
        answers[name] = timed(job)
        print(f"{name:28s} {answers[name][0]:7.4f} {answers[name][1]:9.2f}", flush=True)
    slowest = max(answers["certes, wsr"][1], answers["certes, hb"][1])
    loop = answers["grid of 1000, hb"][1]
    report = Report("calibration_speed")
    report.claim(
        "seconds to calibrate 200 images of 3x128x128 (slower of wsr and hb)",
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
    report.save()


if __name__ == "__main__":
    main()
