r"""Rules that promise an average over calibrations: cheaper, and weaker, than those with a delta.

They need no delta because they say nothing of the one calibration that was made. With the same
alpha, some 20 to 45 % of calibrations have a larger risk than alpha (crc); the words say so.
"""

from __future__ import annotations

import math

from certes.intervals.critical import Units
from certes.intervals.rules.base import MeanRule, MonotoneRule, Promise, Test, percent


class ConformalRiskControl(MeanRule):
    r"""The mean loss r against :math:`(n r + 1) / (n + 1) \le \alpha` (Angelopoulos et al. 2022).

    The loss of a new unit, exchangeable with the n, is then at most alpha **in expectation** over
    calibrations and new units together.
    """

    name = "crc"
    needs_delta = False

    def largest_mean(self, n: int, alpha: float, delta: float) -> float:
        return allowance(n, alpha) / n

    def smallest_n(self, alpha: float, delta: float) -> int:
        return _smallest_n(alpha)

    def words(self, promise: Promise) -> str:
        return (
            f"On average over calibrations with {promise.units}, and only on average over them,"
            f" the intervals miss the true value at no more than {percent(promise.alpha)} of the"
            f" {promise.pixels} of {promise.new_unit} of the same kind. With the one calibration"
            " made here the share missed may well be larger."
        )


class ImageLevel(MonotoneRule):
    r"""Few images that miss more than a tolerated share of their pixels.

    Split conformal prediction (Vovk et al. 2005) of the unit's loss: with k of the n units losing
    more than the tolerance, :math:`(k + 1) / (n + 1) \le \alpha`. A new unit then loses more with
    probability at most alpha, over calibrations and new units together.
    """

    name = "image"
    needs_delta = False

    def acceptance(self, units: Units, alpha: float, delta: float, tolerance: float) -> Test:
        allowed = allowance(units.n, alpha)
        return lambda losses: int((losses > tolerance).sum()) <= allowed

    def smallest_n(self, alpha: float, delta: float) -> int:
        return _smallest_n(alpha)

    def words(self, promise: Promise) -> str:
        assert promise.tolerance is not None
        each = ", on average over its images," if promise.grouped else ""
        return (
            f"With probability at least {1 - promise.alpha:.4g}, {promise.new_unit} of the same"
            f" kind has{each} at least {percent(1 - promise.tolerance)} of its {promise.pixels}"
            " inside their intervals. The probability is over the new image and the choice of the"
            f" {promise.units} used for calibration together; with the one calibration made here"
            " it may be smaller."
        )


def allowance(n: int, alpha: float) -> float:
    r"""The largest sum of n losses in [0, 1] with :math:`(\sum_i L_i + 1) / (n + 1) \le \alpha`."""
    return alpha * (n + 1) - 1


def _smallest_n(alpha: float) -> int:
    n = max(1, math.floor(1 / alpha) - 2)
    while allowance(n, alpha) < 0:
        n += 1
    return n
