r"""Does the guarantee hold? Repeated fresh calibrations where the true risk is known exactly.

One trial draws calibration units from a generator whose risk :math:`R(\lambda)` has a closed form,
calibrates with the very functions that `calibrate` uses, and fails when the true risk exceeds
alpha. Failures in T trials are compared with the .999 quantile of Binomial(T, delta): a sound rule
exceeds it once in a thousand experiments at worst.

A test that nothing fails shows nothing, so three unsound procedures, all of them published or
tempting, run through the same test and must be rejected:

* pixels: every pixel counted as a unit of its own (what the Conffusion code does);
* sorted: the betting rule on images in ascending order of difficulty, unshuffled;
* selected: the best of 50 equally good checkpoints, chosen and calibrated on the same images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.random import Generator
from torch import Tensor

from certes.intervals.bounds import Bounds
from certes.intervals.cards import Calibration
from certes.intervals.critical import CriticalValues
from certes.intervals.metrics import evaluate
from certes.intervals.populations import AllOrNothing, Lognormal, Population
from certes.intervals.probability import binomial_quantile, clopper_pearson
from certes.intervals.rules import RULES, certify

_SIGNIFICANCE = 0.001
_CHECKPOINTS = 50
_CORRELATION = 0.5


@dataclass(frozen=True)
class Row:
    """One experiment: a procedure on a population, many fresh calibrations.

    Args:
        population: where the images came from.
        procedure: what was done, a rule or an unsound variant of one.
        control: whether the procedure is unsound on purpose.
        n: images per calibration.
        trials: number of calibrations.
        failures: how many of them had a true risk above alpha.
        interval: 95 % Clopper-Pearson interval of the failure probability.
        threshold: most failures that a sound procedure may show.
        excess: mean certified size over the smallest size whose risk is alpha, less 1.
    """

    population: str
    procedure: str
    control: bool
    n: int
    trials: int
    failures: int
    interval: tuple[float, float]
    threshold: int
    excess: float

    @property
    def verdict(self) -> str:
        """``holds``, or ``rejected`` when there were too many failures."""
        return "holds" if self.failures <= self.threshold else "rejected"

    @property
    def as_expected(self) -> bool:
        """Sound procedures must hold, and negative controls must be rejected."""
        return (self.verdict == "rejected") == self.control


@dataclass(frozen=True)
class Experiment:
    """A procedure that turns n fresh images into a certified size, and the risk to judge it by."""

    population: Population
    procedure: str
    n: int
    trial: Callable[[Generator], float]
    control: bool = False

    def run(self, trials: int, alpha: float, delta: float, seed: int) -> Row:
        """Repeat the trial and count how often the true risk exceeds alpha."""
        rng = np.random.default_rng(seed)
        sizes = [self.trial(rng) for _ in range(trials)]
        failures = sum(self.population.risk(size) > alpha for size in sizes)
        oracle = self.population.smallest_size(alpha)
        return Row(
            population=self.population.name,
            procedure=self.procedure,
            control=self.control,
            n=self.n,
            trials=trials,
            failures=failures,
            interval=clopper_pearson(failures, trials),
            threshold=binomial_quantile(1 - _SIGNIFICANCE, trials, delta),
            excess=float(np.mean(sizes)) / oracle - 1,
        )


def synthetic_experiments(
    alpha: float = 0.1, delta: float = 0.1, sizes: Sequence[int] = (100, 200)
) -> list[Experiment]:
    """All experiments: every rule on every population and n, then the negative controls."""
    populations = [*map(Lognormal, (0.0, 0.15, 0.3, 0.5)), AllOrNothing()]
    sound = [
        Experiment(population, rule, n, _sound_trial(population, rule, n, alpha, delta))
        for population in populations
        for rule in RULES
        for n in sizes
    ]
    return [*sound, *(c for n in sizes for c in _controls(n, alpha, delta))]


def verify_synthetic(
    trials: int = 1000,
    *,
    alpha: float = 0.1,
    delta: float = 0.1,
    sizes: Sequence[int] = (100, 200),
    seed: int = 0,
) -> list[Row]:
    """Run every experiment. A caller who wants progress iterates `synthetic_experiments` instead.

    With fewer than about 300 trials the test has too little power to reject every control.

    Raises: CalibrationError when alpha cannot be certified with these numbers of images.
    """
    experiments = synthetic_experiments(alpha, delta, sizes)
    return [e.run(trials, alpha, delta, seed + i) for i, e in enumerate(experiments)]


def _sound_trial(
    population: Population, rule: str, n: int, alpha: float, delta: float
) -> Callable[[Generator], float]:
    def trial(rng: Generator) -> float:
        units = CriticalValues.of_images(population.draw(rng, n))
        return certify(units.shuffled(int(rng.integers(2**32))), rule, alpha, delta)

    return trial


def _controls(n: int, alpha: float, delta: float) -> Iterator[Experiment]:
    uneven = Lognormal(0.5)

    def pixels(rng: Generator) -> float:
        each_alone = uneven.draw(rng, n).reshape(-1, 1)
        return certify(CriticalValues.of_images(each_alone), "hb", alpha, delta)

    def in_order(rng: Generator) -> float:
        values = uneven.draw(rng, n)
        easy_first = values[np.argsort(values.mean(axis=1))]
        return certify(CriticalValues.of_images(easy_first), "wsr", alpha, delta)

    def selected(rng: Generator) -> float:
        return min(_checkpoint_sizes(AllOrNothing(), rng, n, alpha, delta))

    yield Experiment(uneven, "every pixel a unit (hb)", n, pixels, control=True)
    yield Experiment(uneven, "sorted images (wsr)", n, in_order, control=True)
    yield Experiment(
        AllOrNothing(), f"best of {_CHECKPOINTS} checkpoints (hb)", n, selected, control=True
    )


def _checkpoint_sizes(
    population: Population, rng: Generator, n: int, alpha: float, delta: float
) -> Iterator[float]:
    """Certified sizes of equally good checkpoints that find mostly the same images difficult."""
    shared = rng.standard_normal(n)
    for _ in range(_CHECKPOINTS):
        own = rng.standard_normal(n)
        z = math.sqrt(_CORRELATION) * shared + math.sqrt(1 - _CORRELATION) * own
        yield certify(CriticalValues.of_images(population.critical(rng, z)), "hb", alpha, delta)


@dataclass(frozen=True)
class HeldOut:
    """A card on images that it has never seen.

    Args:
        images: their number.
        alpha, delta: what the card promises.
        risk: share of pixels missed.
        interval: 95 % confidence interval of the risk, over images; ``None`` for one image.
    """

    images: int
    alpha: float
    delta: float
    risk: float
    interval: tuple[float, float] | None

    @property
    def verdict(self) -> str:
        """``holds`` if the risk is at most alpha, else ``broken`` or, within error, ``unclear``.

        A promise kept with probability 1 - delta may be broken by chance: ``broken`` says that
        this card's risk is above alpha, not that the procedure is unsound.
        """
        if self.risk <= self.alpha:
            return "holds"
        return "broken" if self.interval and self.interval[0] > self.alpha else "unclear"


def verify_card(
    calibration: Calibration, bounds: Bounds, truth: Float[Tensor, "b c h w"], seed: int = 0
) -> HeldOut:
    """Apply a card to raw bounds of held-out images and compare the risk with its promise.

    Raises: CalibrationError when the card does not belong to these bounds.
    """
    scores = evaluate(calibration(bounds), truth, seed)
    return HeldOut(
        images=scores["images"],
        alpha=calibration.alpha,
        delta=calibration.delta,
        risk=scores["risk"],
        interval=scores["risk_interval"],
    )
