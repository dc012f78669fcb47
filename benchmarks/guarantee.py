"""Does the guarantee hold? 2000 fresh calibrations per cell on images of exactly known risk.

    python benchmarks/guarantee.py [TRIALS]

The experiments of `certes verify --synthetic` in full: every rule under every family, calibrations
with 25 to 1000 images, shapes, and the unsound procedures that must be rejected. Beside them the
calibration loop as published with Conffusion: a grid of 1000 sizes scanned from the top, a
Hoeffding-Bentkus bound in which every pixel counts. With another number of trials than 2000 the
claims are printed and not kept.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

import numpy as np
from _report import Report
from numpy.random import Generator

from certes.intervals.experiments import Experiment, Outcome, Procedure, Row
from certes.intervals.populations import Lognormal, smallest_size
from certes.intervals.probability import binomial_quantile
from certes.intervals.rules import HoeffdingBentkus
from certes.intervals.verification import CONTROL_SIZES, SIZES, TAUS, synthetic_experiments

ALPHA = DELTA = 0.1
TRIALS = 2000
GRID = np.linspace(0, 6, 1000)

# Mean size over the oracle's, by n and tau: simulated for the published rules, before certes.
KNOWN = {
    (100, 0.3): {"hb": 1.304, "wsr": 1.107, "crc": 1.036},
    (200, 0.15): {"hb": 1.157, "wsr": 1.044, "crc": 1.017},
    (200, 0.3): {"hb": 1.183, "wsr": 1.056, "crc": 1.018},
    (200, 0.5): {"hb": 1.236, "wsr": 1.084, "crc": 1.024},
    (1000, 0.3): {"hb": 1.073, "wsr": 1.020, "crc": 1.006},
}
MARGIN = 1.03


def published(population: Lognormal, n: int) -> Experiment:
    """Conffusion's rule, on its grid."""
    oracle = smallest_size(population.risk, ALPHA)

    def trial(errors: np.ndarray) -> Outcome:
        limit = HoeffdingBentkus().largest_mean(errors.size, ALPHA, DELTA)
        passed = GRID[-1]
        for size in GRID[::-1]:
            if np.count_nonzero(errors > size) > limit * errors.size:
                break
            passed = size
        return Outcome(population.risk(float(passed)), float(passed) / oracle - 1)

    def draw(rng: Generator) -> np.ndarray:
        return population.draw(rng, n)

    loop = Procedure("published grid loop", trial, control=True)
    return Experiment(f"{population.name}, published", "scale", n, draw, [loop])


def show(row: Row) -> None:
    found = f"{row.failures:6d}"
    if row.on_average and row.mean is not None:
        found = f"{row.mean:6.4f}"
    low, high = row.interval or (0.0, 1.0)
    size = "" if row.excess is None else f"{low:.3f} to {high:.3f} {row.excess:+7.1%}"
    print(
        f"{row.population:44s} {row.family:8s} {row.procedure:24s} {row.n:4d} {found}"
        f"  {size:23s} {row.verdict}{'' if row.as_expected else ', NOT AS EXPECTED'}",
        flush=True,
    )


def run(trials: int) -> list[Row]:
    experiments = synthetic_experiments(ALPHA, DELTA, SIZES, TAUS, CONTROL_SIZES)
    experiments += [published(Lognormal(0.5), n) for n in CONTROL_SIZES]
    rows: list[Row] = []
    for number, experiment in enumerate(experiments, start=1):
        print(f"-- {number} of {len(experiments)}")
        rows += experiment.run(trials, ALPHA, DELTA, seed=0)
        for row in rows[-len(experiment.procedures) :]:
            show(row)
    return rows


def claim_promises(report: Report, rows: Iterable[Row], trials: int) -> None:
    done = [row for row in rows if not row.control and row.n >= row.needed]
    certain = [row for row in done if not row.on_average]
    threshold = binomial_quantile(0.999, trials, DELTA)
    worst = max(certain, key=lambda row: row.failures)
    report.claim(
        f"most calibrations of {trials} with a true risk above alpha, over {len(certain)} cells:"
        " rules with a delta and shapes, five families, five populations, n from 25 to 1000"
        f" (worst: {worst.procedure}, {worst.family}, {worst.population}, n = {worst.n})",
        worst.failures,
        f"at most {threshold}",
        all(row.verdict == "holds" for row in certain) and worst.failures <= threshold,
    )
    for rule, what in (("crc", "risk"), ("image", "share of bad images")):
        cells = [row for row in done if row.procedure == rule and row.mean is not None]
        worst = max(cells, key=lambda row: row.mean or 0.0)
        report.claim(
            f"rule {rule}: largest mean {what} over {len(cells)} cells"
            f" ({worst.family}, {worst.population}, n = {worst.n})",
            round(worst.mean or 0.0, 4),
            f"at most {ALPHA} and 3.09 standard errors, here {worst.threshold:.4f}; in every cell",
            all(row.verdict == "holds" for row in cells),
        )
    few = [row for row in rows if row.n < row.needed]
    report.claim(
        "cells with fewer images than the rule says it needs, refused in every trial",
        sum(row.as_expected for row in few),
        f"{len(few)} of {len(few)}",
        all(row.as_expected for row in few),
    )


def claim_controls(report: Report, rows: Iterable[Row]) -> None:
    for row in (row for row in rows if row.control):
        found = round(row.mean or 0.0, 4) if row.on_average else row.failures
        report.claim(
            f"negative control rejected: {row.procedure}, {row.population}, n = {row.n}",
            found,
            f"more than {row.threshold:.4g}",
            row.verdict == "rejected",
        )


def claim_tightness(report: Report, rows: Iterable[Row]) -> None:
    cells = [
        row.failures / row.trials
        for row in rows
        if (row.procedure, row.population) == ("wsr", "all or nothing") and row.n >= 100
    ]
    report.claim(
        f"not vacuous: failure rate of wsr on images missed whole, n >= 100, {len(cells)} cells",
        f"{min(cells):.4f} to {max(cells):.4f}",
        "between 0.04 and 0.11",
        min(cells) >= 0.04 and max(cells) <= 0.11,
    )


def claim_widths(report: Report, rows: Iterable[Row]) -> None:
    sizes = {
        (row.n, row.population, row.procedure): 1 + row.excess
        for row in rows
        if row.family == "scale" and row.excess is not None and not row.control
    }
    for (n, tau), known in KNOWN.items():
        ours = {rule: sizes[n, Lognormal(tau).name, rule] for rule in known}
        report.claim(
            f"mean size over the oracle's, n = {n}, tau = {tau}",
            ", ".join(f"{rule} {size:.3f}" for rule, size in ours.items()),
            f"at most {MARGIN} x "
            + ", ".join(f"{rule} {size:.3f}" for rule, size in known.items()),
            all(ours[rule] <= MARGIN * size for rule, size in known.items()),
        )
    betting, bentkus = (sizes[200, Lognormal(0.3).name, rule] for rule in ("wsr", "hb"))
    report.claim(
        "wsr narrower than hb at n = 200, tau = 0.3",
        f"{betting:.3f} against {bentkus:.3f}",
        "by 10 % or more",
        betting <= 0.9 * bentkus,
    )


def claim_shapes(report: Report, rows: Iterable[Row], n: int) -> None:
    rows = [row for row in rows if row.n == n and "where narrow" in row.population]
    widths = {row.procedure: 1 + (row.excess or 0.0) for row in rows}
    for shape in ("sides", "strata"):
        report.claim(
            "mean width over the best single lambda's, bounds too narrow by 3 below the estimate"
            f" and by 2 where they are narrow, n = {n}: wsr with {shape}, and without",
            f"{widths[f'wsr, {shape}']:.3f} (without {widths['wsr']:.3f})",
            "narrower than without",
            widths[f"wsr, {shape}"] < widths["wsr"],
        )


def main() -> None:
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else TRIALS
    print(f"alpha = delta = {ALPHA}, {trials} calibrations each")
    rows = run(trials)
    report = Report("guarantee")
    claim_promises(report, rows, trials)
    claim_controls(report, rows)
    claim_tightness(report, rows)
    claim_widths(report, rows)
    for n in (200, 1000):
        claim_shapes(report, rows, n)
    if trials == TRIALS:
        report.save()


if __name__ == "__main__":
    main()
