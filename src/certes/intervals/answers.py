r"""From pixels to answers: intervals for a number that is measured in every picture.

What is measured in a posterior sample of a picture may have been measured in the picture, were the
sampler exact. No sampler is, so what the samples say is calibrated on pictures whose true number
is known, by split conformal prediction (Vovk, Gammerman, Shafer 2005; Lei et al. 2018): every
picture has a score, the smallest interval size that covers its truth, and the size for new ones is
one of these scores. Task-driven uncertainty (Wen, Ahmad, Schniter 2024) does the same.

Two scores (`SCORES`):

* ``std``: intervals :math:`m \pm \lambda s` about the mean m of the samples' numbers, s their
  standard deviation (locally weighted, Lei et al. 2018);
* ``cqr``: :math:`[l - \lambda, u + \lambda]` about two of their order statistics (conformalized
  quantile regression, Romano, Patterson, Candes 2019).

Two guarantees: the share of misses over repeated calibrations (:math:`\mathrm{delta} = None`,
marginal), or with probability 1 - delta for the very calibration that was made (Vovk 2012).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float64
from numpy import ndarray

from certes.data.files import write_json
from certes.errors import CalibrationError, InputError
from certes.intervals.bounds import Provenance
from certes.intervals.cards import checked_format, checked_kinds, read_card
from certes.intervals.counted import unit_numbers
from certes.intervals.critical import CriticalValues
from certes.intervals.measures import Measure
from certes.intervals.probability import binomial_cdf
from certes.intervals.quantiles import order_statistic
from certes.intervals.rules import certify

_FORMAT = "certes answers 1"
_GROUPED_RULE = "wsr"
_SLACK = 1e-9  # of the resolution: more than rounding can cost

Numbers = Float64[ndarray, " b"]
Values = Float64[ndarray, "k b"]
Ends = tuple[Numbers, Numbers, Numbers]


@dataclass(frozen=True, eq=False)
class Answers:
    """An interval around an estimate for the number of every picture.

    Args:
        lower, estimate, upper: (B,), in the unit of the measure.
        guarantee: what holds of them, in words.
    """

    lower: Numbers
    estimate: Numbers
    upper: Numbers
    guarantee: str

    @property
    def width(self) -> Numbers:
        """``upper - lower``."""
        return self.upper - self.lower

    def contains(self, truth: Numbers) -> Bool[ndarray, " b"]:
        """Which true numbers lie inside their interval, the ends included."""
        return (self.lower <= truth) & (truth <= self.upper)


class Score(ABC):
    """A nested family of intervals about what samples say."""

    name: ClassVar[str]
    fewest: ClassVar[int]  # samples

    @abstractmethod
    def critical(self, values: Values, truth: Numbers, alpha: float, least: float) -> Numbers:
        """Smallest size at which each picture's interval covers its truth."""

    @abstractmethod
    def interval(self, values: Values, size: float, alpha: float, least: float) -> Ends:
        """Lower ends, estimates and upper ends at a size."""


class Std(Score):
    """Standard deviations of the samples about their mean; none is smaller than `least`."""

    name, fewest = "std", 2

    def critical(self, values: Values, truth: Numbers, alpha: float, least: float) -> Numbers:
        return np.abs(truth - values.mean(axis=0)) / self._spread(values, least) + _SLACK

    def interval(self, values: Values, size: float, alpha: float, least: float) -> Ends:
        mean, half = values.mean(axis=0), size * self._spread(values, least)
        return mean - half, mean, mean + half

    @staticmethod
    def _spread(values: Values, least: float) -> Numbers:
        return np.maximum(values.std(axis=0, ddof=1), least)


class Cqr(Score):
    """The same amount added to two order statistics, or taken off, down to the median."""

    name, fewest = "cqr", 1

    def critical(self, values: Values, truth: Numbers, alpha: float, least: float) -> Numbers:
        low, middle, high = self._order(values, alpha)
        missing = np.where(truth > middle, truth - high, low - truth)
        nothing_left = -np.maximum(high - middle, middle - low)
        return np.where(truth == middle, nothing_left, missing) + _SLACK * least

    def interval(self, values: Values, size: float, alpha: float, least: float) -> Ends:
        low, middle, high = self._order(values, alpha)
        return np.minimum(low - size, middle), middle, np.maximum(high + size, middle)

    @staticmethod
    def _order(values: Values, alpha: float) -> Ends:
        ascending, k = np.sort(values, axis=0), order_statistic(len(values), alpha)
        return ascending[k - 1], np.median(ascending, axis=0), ascending[-k]


SCORES: dict[str, Score] = {score.name: score for score in (Std(), Cqr())}


@dataclass(frozen=True, kw_only=True)
class AnswerCalibration:
    """A calibrated interval size for one measure, and all that is needed to tell where it holds.

    Args:
        alpha: share of true numbers that may lie outside.
        delta: probability with which the calibration may be worse than that; ``None``: it is so
            on average over calibrations.
        measure: name of the measure.
        resolution: of the measure.
        score: name of the score, see `SCORES`.
        size: the calibrated lambda.
        samples: number of samples behind each answer.
        n: number of independent units, pictures or groups.
        pictures: their number.
        grouped: whether units are groups of pictures.
        seed: of the order in which groups were seen.
        date: when it was made, UTC, ISO 8601.
        provenance: what made the samples; ``None`` if that was not said.
    """

    alpha: float
    delta: float | None
    measure: str
    resolution: float
    score: str
    size: float
    samples: int
    n: int
    pictures: int
    grouped: bool
    seed: int
    date: str
    provenance: Provenance | None = None

    def __post_init__(self) -> None:
        levels = [level for level in (self.alpha, self.delta) if level is not None]
        sound = all(0 < level < 1 for level in levels) and self.resolution > 0
        if self.score not in SCORES or not sound or not math.isfinite(self.size):
            raise CalibrationError(
                f"score {self.score!r} is unknown, or alpha {self.alpha}, delta {self.delta} are "
                f"not in (0, 1), resolution {self.resolution} not positive, size {self.size} not "
                "finite"
            )
        if not 1 <= self.n <= self.pictures:
            raise CalibrationError(f"n: {self.n} units of {self.pictures} pictures cannot be")

    @property
    def guarantee(self) -> str:
        """The guarantee in plain words."""
        units = f"{self.n} groups of pictures" if self.grouped else f"{self.n} pictures"
        new = "picture of a new group" if self.grouped else "new picture"
        if self.delta is None:
            return (
                f"The interval for a {new} of the same kind contains the true {self.measure} with "
                f"probability at least {1 - self.alpha:.4g}, over the choice of that picture and "
                f"of the {units} used for calibration."
            )
        return (
            f"With probability at least {1 - self.delta:.4g} over the choice of the {units} used "
            f"for calibration, the true {self.measure} lies outside its interval for no more than "
            f"{100 * self.alpha:.4g} % of new pictures of the same kind."
        )

    def __call__(
        self, values: Values, measure: Measure, provenance: Provenance | None = None
    ) -> Answers:
        """Intervals with the guarantee.

        Args:
            values: what the measure says of every sample, (K, B): `Measure.of_samples`.
            measure: the measure of the calibration; its regions or estimates are those of the new
                pictures.
            provenance: what made the samples.

        Raises: InputError for values that do not fit; CalibrationError for another measure, number
            of samples or provenance than the card's.
        """
        _check_values(values, SCORES[self.score])
        self._check_origin(values, measure, provenance)
        ends = SCORES[self.score].interval(values, self.size, self.alpha, self.resolution)
        lower, estimate, upper = (end.clip(*measure.limits) for end in ends)
        return Answers(lower, estimate, upper, self.guarantee)

    def _check_origin(
        self, values: Values, measure: Measure, provenance: Provenance | None
    ) -> None:
        mine = (self.measure, self.resolution, self.samples)
        theirs = (measure.name, measure.resolution, len(values))
        differences = [
            f"{name}: {a!r}, not {b!r}"
            for name, a, b in zip(("measure", "resolution", "samples"), mine, theirs, strict=True)
            if a != b
        ]
        if self.provenance is not None and provenance is not None:
            differences += self.provenance.differences(provenance)
        elif self.provenance != provenance:
            differences.append(f"provenance: {self.provenance}, not {provenance}")
        if differences:
            raise CalibrationError(
                "this calibration does not hold for these answers (card's value first): "
                f"{'; '.join(differences)}; calibrate for this combination"
            )

    def save(self, path: str | Path) -> None:
        """Write the card as JSON, atomically."""
        content = {"format": _FORMAT, "guarantee": self.guarantee, **asdict(self)}
        content["lambda"] = content.pop("size")
        write_json(path, content)

    @classmethod
    def load(cls, path: str | Path) -> AnswerCalibration:
        """Read a card.

        Raises: CalibrationError when there is none or it is damaged, naming the file and why.
        """
        return read_card(path, cls._of_card, "card of answers", "`calibrate_answers`")

    @classmethod
    def _of_card(cls, content: Any) -> AnswerCalibration:
        card = checked_format(content, _FORMAT)
        made = card["provenance"]
        return cls(
            **checked_kinds({**card, "size": card.get("lambda")}, _KINDS),
            provenance=None if made is None else Provenance(**made),
        )


_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("alpha", "resolution", "size"), (int, float)),
    **dict.fromkeys(("samples", "n", "pictures", "seed"), (int,)),
    **dict.fromkeys(("measure", "score", "date"), (str,)),
    "delta": (int, float, type(None)),
    "grouped": (bool,),
}


def calibrate_answers(
    values: Values,
    truth: Numbers,
    measure: Measure,
    *,
    alpha: float = 0.1,
    delta: float | None = None,
    score: str = "std",
    groups: Sequence[Hashable] | None = None,
    provenance: Provenance | None = None,
    seed: int = 0,
) -> AnswerCalibration:
    r"""Find the smallest interval size that keeps its word.

    With scores of n pictures, the marginal guarantee needs
    :math:`(1 + \#\{s_i > \lambda\}) / (n + 1) \le \alpha`; the other one needs as many misses to
    be improbable if misses were more frequent than alpha,
    :math:`P(Bin(n, \alpha) \le \#\{s_i > \lambda\}) \le \delta`. With groups, the misses of a group
    are its share of missed pictures: the first becomes conformal risk control (Angelopoulos et al.
    2022), and the second is certified by betting, as for pixels.

    Args:
        values: what the measure says of every posterior sample of the calibration pictures, (K, B):
            `Measure.of_samples`. The pictures must not have served to train or to choose what
            made the samples.
        truth: the true numbers (B,): the measure of the true pictures, or known from elsewhere.
        measure: what is measured.
        alpha: share of true numbers that may lie outside their interval.
        delta: probability with which the calibration may be worse than that; ``None`` for the
            marginal guarantee.
        score: ``std`` or ``cqr``.
        groups: one label per picture, where pictures are not independent; see
            `certes.intervals.calibrate`.
        provenance: what made the samples; it is checked when the card is applied.
        seed: of the order in which groups are seen.

    Raises: InputError for arguments that do not fit; CalibrationError when there are too few units
        (it names the number that would do).
    """
    kind = _score_named(score)
    _check_levels(alpha, delta)
    _check_values(values, kind)
    _check_truth(truth, values, measure)
    scores = kind.critical(values, truth, alpha, measure.resolution)
    units = CriticalValues(scores[:, None], unit_numbers(groups, len(truth)))
    return AnswerCalibration(
        alpha=alpha,
        delta=delta,
        measure=measure.name,
        resolution=measure.resolution,
        score=score,
        size=_size(units, alpha, delta, seed),
        samples=len(values),
        n=units.n,
        pictures=len(truth),
        grouped=groups is not None,
        seed=seed,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        provenance=provenance,
    )


def _size(units: CriticalValues, alpha: float, delta: float | None, seed: int) -> float:
    if delta is not None and units.n < len(units.unit):
        return certify(units.shuffled(seed), _GROUPED_RULE, alpha, delta)
    size = units.smallest_accepted(_acceptance(units.n, alpha, delta))
    if size is None:
        promise = f"alpha = {alpha:g}" + ("" if delta is None else f" with delta = {delta:g}")
        raise CalibrationError(
            f"{promise} cannot be promised: {units.n} independent pictures or groups, at least "
            f"{smallest_n(alpha, delta)} are needed; calibrate with more, or with a larger alpha"
        )
    return size


def smallest_n(alpha: float, delta: float | None = None) -> int:
    """Number of independent pictures from which `alpha` (and `delta`) can be promised at all."""
    n = 1
    while not _acceptance(n, alpha, delta)(np.zeros(n)):
        n += 1
    return n


def _acceptance(n: int, alpha: float, delta: float | None) -> Callable[[Numbers], bool]:
    """Which misses of n units keep the promise. Without groups they are zeros and ones."""
    if delta is None:
        return lambda missed: (1 + math.fsum(missed)) / (n + 1) <= alpha
    return lambda missed: binomial_cdf(math.ceil(math.fsum(missed)), n, alpha) <= delta


def _score_named(name: str) -> Score:
    if name not in SCORES:
        raise InputError(f"score: {name!r} is unknown, known are {', '.join(SCORES)}")
    return SCORES[name]


def _check_levels(alpha: float, delta: float | None) -> None:
    for name, level in (("alpha", alpha), ("delta", delta)):
        if level is not None and not 0 < level < 1:
            raise InputError(f"{name}: {level} is not between 0 and 1")


def _check_values(values: Values, score: Score) -> None:
    if values.ndim != 2 or len(values) < score.fewest or not values.size:
        raise InputError(
            f"values: (samples, pictures) is wanted, with at least {score.fewest} samples for the "
            f"score {score.name!r}; this is {values.shape}"
        )
    if not np.isfinite(values).all():
        raise InputError("values: some are not finite; leave those pictures out of all samples")


def _check_truth(truth: Numbers, values: Values, measure: Measure) -> None:
    if truth.shape != values.shape[1:]:
        raise InputError(
            f"truth: one number per picture is wanted, {truth.shape} for {values.shape[1]} pictures"
        )
    low, high = measure.limits
    if not ((truth >= low) & (truth <= high)).all():
        raise InputError(f"truth: not everywhere in the limits of the measure, {low:g} to {high:g}")
