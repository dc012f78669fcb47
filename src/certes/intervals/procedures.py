"""What is put to the test: every rule, shapes, and unsound procedures that must be rejected.

A test that nothing fails shows nothing. The unsound procedures are all published or tempting:

* pixels: every pixel counted as a unit of its own (what the Conffusion code does);
* sorted: the betting rule on images in ascending order of difficulty, unshuffled;
* selected: the best of 50 equally good checkpoints, chosen and calibrated on the same images;
* judged as rcps: conformal risk control, sold as a promise about the one calibration made;
* without + 1: the rules that promise an average, with the plain mean in place of theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from numpy.random import Generator
from torch import Tensor

from certes.intervals.critical import CriticalValues
from certes.intervals.experiments import Experiment, Outcome, Procedure
from certes.intervals.families import FAMILIES
from certes.intervals.populations import (
    AllOrNothing,
    Lognormal,
    Population,
    Uneven,
    smallest_size,
    stage,
)
from certes.intervals.rules import RULES, certify
from certes.intervals.sides import RATIOS, narrowest_sides
from certes.intervals.strata import SHARE, STRATA, best_strata

TOLERANCE = 0.1
_CHECKPOINTS = 50
_CORRELATION = 0.5


@dataclass(frozen=True, eq=False)
class Drawn:
    """Critical values of a trial's images as they came, and as units in random order."""

    values: Float64[ndarray, "n m"]
    units: CriticalValues


@dataclass(frozen=True)
class Judge:
    """Closed forms of what is promised, for sizes of a family on a population."""

    population: Population
    plain: Callable[[float], float]
    alpha: float

    def of_risk(self, certified: Callable[[Drawn], float]) -> Callable[[Drawn], Outcome]:
        """A trial judged by the risk at the certified size."""
        return self._by(certified, self.population.risk)

    def of_images(self, certified: Callable[[Drawn], float]) -> Callable[[Drawn], Outcome]:
        """A trial judged by the probability of an image that misses more than is tolerated."""
        return self._by(certified, lambda size: self.population.share_of_bad(size, TOLERANCE))

    def _by(
        self, certified: Callable[[Drawn], float], truth: Callable[[float], float]
    ) -> Callable[[Drawn], Outcome]:
        oracle = smallest_size(truth, self.alpha)

        def trial(drawn: Drawn) -> Outcome:
            size = self.plain(certified(drawn))
            return Outcome(truth(size), size / oracle - 1)

        return trial


def rules_on(population: Population, family: str, n: int, alpha: float, delta: float) -> Experiment:
    """Every rule, on images of one population under one family."""
    judge = Judge(population, stage(family, n, population.pixels).plain, alpha)

    def procedure(rule: str) -> Procedure:
        def certified(drawn: Drawn) -> float:
            return certify(drawn.units, rule, alpha, delta, TOLERANCE)

        judged = judge.of_images if rule == "image" else judge.of_risk
        needed = RULES[rule].smallest_n(alpha, delta)
        return Procedure(rule, judged(certified), needed, not RULES[rule].needs_delta)

    draw = _drawing(population, family, n)
    return Experiment(population.name, family, n, draw, [procedure(rule) for rule in RULES])


def controls(n: int, alpha: float, delta: float) -> Iterator[Experiment]:
    """The unsound procedures, under the family `scale`."""
    uneven, extreme = Lognormal(0.5), AllOrNothing()
    judge, harsh = (Judge(population, float, alpha) for population in (uneven, extreme))

    def pixels(drawn: Drawn) -> float:
        each_alone = drawn.values.reshape(-1, 1)
        return certify(CriticalValues.of_images(each_alone), "hb", alpha, delta)

    def in_order(drawn: Drawn) -> float:
        easy_first = drawn.values[np.argsort(drawn.values.mean(axis=1))]
        return certify(CriticalValues.of_images(easy_first), "wsr", alpha, delta)

    def crc(drawn: Drawn) -> float:
        return certify(drawn.units, "crc", alpha, delta)

    def plain_mean(drawn: Drawn) -> float:
        size = drawn.units.smallest_accepted(lambda losses: math.fsum(losses) <= alpha * n)
        assert size is not None
        return size

    yield Experiment(
        uneven.name,
        "scale",
        n,
        _drawing(uneven, "scale", n),
        [
            Procedure("every pixel a unit (hb)", judge.of_risk(pixels), control=True),
            Procedure("sorted images (wsr)", judge.of_risk(in_order), control=True),
            Procedure("crc judged as rcps", judge.of_risk(crc), control=True),
        ],
    )
    yield Experiment(
        extreme.name,
        "scale",
        n,
        _drawing(extreme, "scale", n),
        [
            Procedure("crc without + 1", harsh.of_risk(plain_mean), on_average=True, control=True),
            Procedure(
                "image without + 1", harsh.of_images(plain_mean), on_average=True, control=True
            ),
        ],
    )
    yield Experiment(
        f"{extreme.name}, {_CHECKPOINTS} checkpoints",
        "scale",
        n,
        lambda rng: _checkpoints(extreme, rng, n),
        [Procedure("best of them (hb)", _selected(extreme, alpha, delta), control=True)],
    )


def shapes_on(uneven: Uneven, n: int, alpha: float, delta: float) -> Experiment:
    """The betting rule without a shape, with sides and with strata, on bounds that need them.

    Sizes are compared by the mean width of the intervals, with that of the best single lambda.
    """
    scale, rule = FAMILIES["scale"], "wsr"
    oracle = uneven.width(smallest_size(uneven.risk, alpha))
    fitted = max(1, round(SHARE * n))
    smallest = RULES[rule].smallest_n

    def plain(truth: Tensor) -> Outcome:
        values = scale.critical(uneven.bounds(n), truth)[0, 0]
        size = certify(CriticalValues.of_images(values), rule, alpha, delta)
        return Outcome(uneven.risk(size), uneven.width(size) / oracle - 1)

    def sides(truth: Tensor) -> Outcome:
        best, size = narrowest_sides(
            lambda shape: CriticalValues.of_images(
                scale.critical(uneven.bounds(n), truth, shape)[0, 0]
            ),
            lambda shape, size: uneven.width(size, shape),
            alpha=alpha,
            delta=delta,
            rule=rule,
        )
        return Outcome(uneven.risk(size, best), uneven.width(size, best) / oracle - 1)

    def strata(truth: Tensor) -> Outcome:
        early, rest = truth[:, :, :fitted], truth[:, :, fitted:]
        weight = np.full(early.numel(), 1 / early.numel())
        shape = best_strata(
            uneven.bounds(fitted), early, weight, alpha=alpha, family=scale, strata=STRATA
        )
        values = scale.critical(uneven.bounds(n - fitted), rest, shape)[0, 0]
        size = certify(CriticalValues.of_images(values), rule, alpha, delta)
        return Outcome(uneven.risk(size, shape), uneven.width(size, shape) / oracle - 1)

    return Experiment(
        uneven.name,
        "scale",
        n,
        lambda rng: uneven.truth(rng, n),
        [
            Procedure(rule, plain, smallest(alpha, delta)),
            Procedure(f"{rule}, sides", sides, smallest(alpha, delta / len(RATIOS))),
            Procedure(f"{rule}, strata", strata, smallest(alpha, delta) + fitted),
        ],
    )


def _drawing(population: Population, family: str, n: int) -> Callable[[Generator], Drawn]:
    place = stage(family, n, population.pixels)

    def draw(rng: Generator) -> Drawn:
        values = place.critical(population.draw(rng, n))
        units = CriticalValues.of_images(values).shuffled(int(rng.integers(2**32)))
        return Drawn(values, units)

    return draw


def _checkpoints(population: Population, rng: Generator, n: int) -> list[Float64[ndarray, "n m"]]:
    """Critical values for equally good checkpoints that find mostly the same images difficult."""
    shared = math.sqrt(_CORRELATION) * rng.standard_normal(n)
    own = math.sqrt(1 - _CORRELATION)
    return [
        population.critical(rng, shared + own * rng.standard_normal(n)) for _ in range(_CHECKPOINTS)
    ]


def _selected(
    population: Population, alpha: float, delta: float
) -> Callable[[list[Float64[ndarray, "n m"]]], Outcome]:
    oracle = smallest_size(population.risk, alpha)

    def trial(checkpoints: list[Float64[ndarray, "n m"]]) -> Outcome:
        units = map(CriticalValues.of_images, checkpoints)
        size = min(certify(each, "hb", alpha, delta) for each in units)
        return Outcome(population.risk(size), size / oracle - 1)

    return trial
