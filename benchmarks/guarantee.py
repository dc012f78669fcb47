"""Does the guarantee hold? 1000 fresh calibrations per cell on images of exactly known risk.

    python benchmarks/guarantee.py

The same experiments as `certes verify --synthetic`, the unsound procedures among them, and beside
them the calibration loop as published with Conffusion: a grid of 1000 sizes scanned from the top,
a Hoeffding-Bentkus bound in which every pixel counts.
"""

from __future__ import annotations

import numpy as np
from _report import Report
from numpy.random import Generator

from certes.intervals.populations import Lognormal
from certes.intervals.rules import HoeffdingBentkus
from certes.intervals.verification import Experiment, Row, synthetic_experiments

ALPHA = DELTA = 0.1
TRIALS = 1000
GRID = np.linspace(0, 6, 1000)


def published(population: Lognormal, n: int) -> Experiment:
    """Conffusion's rule, on its grid."""

    def trial(rng: Generator) -> float:
        errors = population.draw(rng, n)
        limit = HoeffdingBentkus().largest_mean(errors.size, ALPHA, DELTA)
        assert limit is not None
        passed = GRID[-1]
        for size in GRID[::-1]:
            if np.count_nonzero(errors > size) > limit * errors.size:
                break
            passed = size
        return float(passed)

    return Experiment(population, "published grid loop", n, trial, control=True)


def show(row: Row) -> None:
    low, high = row.interval
    print(
        f"{row.population:20s} {row.procedure:28s} {row.n:4d} {row.failures:6d}"
        f"   {low:.3f} to {high:.3f} {row.excess:+7.1%}  {row.verdict}",
        flush=True,
    )


def main() -> None:
    experiments = synthetic_experiments(ALPHA, DELTA)
    experiments += [published(Lognormal(0.5), n) for n in (100, 200)]
    print(f"alpha = delta = {ALPHA}, {TRIALS} calibrations each")
    print("population           procedure                       n  fails   95 % interval     size")
    rows: list[Row] = []
    for seed, experiment in enumerate(experiments):
        rows.append(experiment.run(TRIALS, ALPHA, DELTA, seed))
        show(rows[-1])
    report = Report("guarantee")
    threshold = rows[0].threshold
    worst = max((row for row in rows if not row.control), key=lambda row: row.failures)
    report.claim(
        f"most calibrations of {TRIALS} with a true risk above alpha, rules wsr and hb, n = 100"
        f" and 200, five populations ({worst.population}, {worst.procedure}, n = {worst.n})",
        worst.failures,
        f"at most {threshold}",
        worst.failures <= threshold,
    )
    for row in (row for row in rows if row.control):
        report.claim(
            f"negative control rejected: {row.procedure}, {row.population}, n = {row.n}",
            row.failures,
            f"more than {threshold}",
            row.failures > threshold,
        )
    usual = {row.procedure: row for row in rows if row.population.endswith("0.3") and row.n == 200}
    betting, bentkus = usual["wsr"], usual["hb"]
    report.claim(
        "interval size over the oracle's at n = 200, tau 0.3: wsr, and hb beside it",
        f"{1 + betting.excess:.3f} (hb {1 + bentkus.excess:.3f})",
        "wsr narrower by 10 % or more",
        (1 + betting.excess) <= 0.9 * (1 + bentkus.excess),
    )
    report.save()


if __name__ == "__main__":
    main()
