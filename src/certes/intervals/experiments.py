r"""Repeated fresh calibrations where the truth is known, and the verdict on each procedure.

A procedure with a delta fails in a trial when its true risk exceeds alpha. Failures in T trials are
compared with the .999 quantile of Binomial(T, delta): a sound procedure exceeds it once in a
thousand experiments at worst. A procedure that promises an average over calibrations is judged by
the mean of what it promises: it may exceed alpha by what chance brings once in a thousand.

A procedure that refuses so few units must do so in every trial, and where it says it would.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator

from certes.errors import CalibrationError
from certes.intervals.probability import binomial_quantile, clopper_pearson

_SIGNIFICANCE = 0.001
_NORMAL_QUANTILE = 3.0902  # of 1 - _SIGNIFICANCE
_NORMAL_HALF_WIDTH = 1.96  # of a 95 % interval


@dataclass(frozen=True)
class Outcome:
    """What one calibration came to.

    Args:
        value: the truth about what is promised to be at most alpha: the risk, or the probability
            of an image that misses too much.
        excess: size (or width) over the smallest at which that truth is alpha, less 1.
    """

    value: float
    excess: float


@dataclass(frozen=True)
class Procedure:
    """A way to calibrate.

    Args:
        name: what was done, a rule or an unsound variant of one.
        trial: calibrates with what an experiment drew; may raise CalibrationError.
        needed: number of images below which it refuses.
        on_average: whether it promises a mean over calibrations, and nothing of each.
        control: whether it is unsound on purpose.
    """

    name: str
    trial: Callable[[Any], Outcome]
    needed: int = 0
    on_average: bool = False
    control: bool = False


@dataclass(frozen=True)
class Row:
    """A procedure on a population, many fresh calibrations.

    Args:
        population, family, n: what was calibrated on; n images each time.
        procedure, control, on_average, needed: see `Procedure`.
        trials: number of calibrations.
        refusals: how many of them were refused.
        failures: how many had a truth above alpha.
        mean: the mean truth; ``None`` if all were refused.
        interval: 95 % interval of what is judged: of the failure probability (Clopper-Pearson), or
            of the mean (normal).
        threshold: most failures that a sound procedure may show, or its largest mean.
        excess: mean of `Outcome.excess`.
    """

    population: str
    family: str
    n: int
    procedure: str
    control: bool
    on_average: bool
    needed: int
    trials: int
    refusals: int
    failures: int
    mean: float | None
    interval: tuple[float, float] | None
    threshold: float
    excess: float | None

    @property
    def verdict(self) -> str:
        """``holds``; ``rejected`` when there were too many failures; ``refuses``."""
        if self.refusals or self.mean is None:
            return "refuses"
        judged = self.mean if self.on_average else self.failures
        return "holds" if judged <= self.threshold else "rejected"

    @property
    def as_expected(self) -> bool:
        """Sound procedures hold or, with too few images, refuse; negative controls are rejected."""
        if self.n < self.needed:
            return self.refusals == self.trials
        return self.verdict == ("rejected" if self.control else "holds")


@dataclass(frozen=True)
class Experiment:
    """Procedures on the same fresh images.

    Args:
        population, family, n: where the images come from, and how many are drawn for a trial.
        draw: draws them; what it returns is handed to every procedure.
        procedures: what is done with them.
    """

    population: str
    family: str
    n: int
    draw: Callable[[Generator], Any]
    procedures: Sequence[Procedure]

    def run(self, trials: int, alpha: float, delta: float, seed: int) -> list[Row]:
        """Repeat the trial. The random stream is the experiment's own, whatever else is run."""
        name = f"{self.population}, {self.family}, {self.n}"
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        outcomes: list[list[Outcome]] = [[] for _ in self.procedures]
        for _ in range(trials):
            drawn = self.draw(rng)
            for procedure, mine in zip(self.procedures, outcomes, strict=True):
                try:
                    mine.append(procedure.trial(drawn))
                except CalibrationError:
                    continue
        rows = zip(self.procedures, outcomes, strict=True)
        return [self._row(procedure, mine, trials, alpha, delta) for procedure, mine in rows]

    def _row(
        self, procedure: Procedure, outcomes: list[Outcome], trials: int, alpha: float, delta: float
    ) -> Row:
        values = np.array([outcome.value for outcome in outcomes])
        done, failures = len(outcomes), int((values > alpha).sum())
        interval, threshold = None, float(binomial_quantile(1 - _SIGNIFICANCE, trials, delta))
        if procedure.on_average:
            threshold = 1.0  # the largest risk there is: what a single trial can tell
            if done > 1:
                mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(done)
                half = _NORMAL_HALF_WIDTH * error
                interval, threshold = (mean - half, mean + half), alpha + _NORMAL_QUANTILE * error
        elif done:
            interval = clopper_pearson(failures, done)
        return Row(
            population=self.population,
            family=self.family,
            n=self.n,
            procedure=procedure.name,
            control=procedure.control,
            on_average=procedure.on_average,
            needed=procedure.needed,
            trials=trials,
            refusals=trials - done,
            failures=failures,
            mean=float(values.mean()) if done else None,
            interval=interval,
            threshold=threshold,
            excess=float(np.mean([o.excess for o in outcomes])) if done else None,
        )
