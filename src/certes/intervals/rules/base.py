"""What a rule is: a test of losses, the size that it certifies, and the promise in words."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float64
from numpy import ndarray

from certes.intervals.critical import Units

Losses = Float64[ndarray, " n"]
Test = Callable[[Losses], bool]


@dataclass(frozen=True)
class Promise:
    """What a guarantee is about.

    Args:
        alpha, delta, tolerance: the levels, ``None`` where the rule has none.
        n: number of units.
        grouped: whether units are groups of images.
        counted: whether only some pixels of each image are meant.
    """

    alpha: float
    delta: float | None
    n: int
    grouped: bool = False
    tolerance: float | None = None
    counted: bool = False

    @property
    def units(self) -> str:
        """How many units served, and what they are."""
        return f"{self.n} groups of images" if self.grouped else f"{self.n} images"

    @property
    def new_unit(self) -> str:
        """Of what it speaks."""
        return "a new group of images" if self.grouped else "a new image"

    @property
    def pixels(self) -> str:
        """Of which pixels it speaks."""
        return "counted pixels" if self.counted else "pixels"


class Rule(ABC):
    """Which interval sizes are certified, for losses of independent units.

    Attributes:
        name: what users call it.
        needs_delta: whether it promises something of the one calibration made, except with
            probability delta; a rule that does not promises an average over calibrations.
    """

    name: ClassVar[str]
    needs_delta: ClassVar[bool] = True

    @abstractmethod
    def smallest_size(
        self, units: Units, alpha: float, delta: float, tolerance: float
    ) -> float | None:
        """The smallest certified size, for units in their order; ``None`` if no finite one is."""

    @abstractmethod
    def smallest_n(self, alpha: float, delta: float) -> int:
        """Number of units from which on losses of zero are certified."""

    def words(self, promise: Promise) -> str:
        """The guarantee in plain words."""
        assert promise.delta is not None
        return (
            f"With probability at least {1 - promise.delta:.4g} over the choice of the"
            f" {promise.units} used for calibration, the intervals miss the true value at no more"
            f" than {percent(promise.alpha)} of the {promise.pixels} of {promise.new_unit} of the"
            " same kind, on average over such images."
        )


class MonotoneRule(Rule):
    """A rule whose test accepts, with some losses, all that are nowhere larger."""

    @abstractmethod
    def acceptance(self, units: Units, alpha: float, delta: float, tolerance: float) -> Test:
        """The test, as a function of the losses of the units in their order, ``(n,) -> bool``."""

    def smallest_size(
        self, units: Units, alpha: float, delta: float, tolerance: float
    ) -> float | None:
        return units.smallest_accepted(self.acceptance(units, alpha, delta, tolerance))


class MeanRule(MonotoneRule):
    """A rule that looks at nothing but the mean loss."""

    @abstractmethod
    def largest_mean(self, n: int, alpha: float, delta: float) -> float:
        """Largest mean loss of n units that is accepted; negative where not even 0 is."""

    def acceptance(self, units: Units, alpha: float, delta: float, tolerance: float) -> Test:
        n, limit = units.n, self.largest_mean(units.n, alpha, delta)
        # fsum is exact, so the order of the units cannot matter even in the last bit.
        return lambda losses: math.fsum(losses) / n <= limit


def percent(share: float) -> str:
    """A share of 1 as a percentage."""
    return f"{100 * share:.4g} %"
