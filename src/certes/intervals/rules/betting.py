r"""The betting rule: the narrowest that promises something of the one calibration made."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from certes.intervals.critical import CriticalValues, Units
from certes.intervals.rules.base import MonotoneRule, Test

_PILOT_PIXELS = 1024  # pixels per image from which bets are set; more moves a size by about 1e-3
_PILOT_GROWTH = 1.25  # bets are set anew each time this many times as many units have been seen


class Betting(MonotoneRule):
    r"""Betting against ":math:`R > \alpha`" (Waudby-Smith and Ramdas 2023), one unit at a time.

    The capital :math:`K_t = \prod_{i \le t} (1 + \nu_i (\alpha - L_i))` does not grow on average
    while the risk exceeds alpha, if each bet :math:`\nu_i \ge 0` is fixed before unit i is seen;
    by Ville's inequality it then ever reaches :math:`1 / \delta` with probability at most delta.
    Only mu = alpha is tested, so nothing has to be inverted.

    The bets are theirs, :math:`\nu_i = \min\{1, \sqrt{2 \log(1/\delta) / (n \hat v_i)}\}`, but with
    one difference: :math:`\hat v_i` is the variance of the earlier units' losses at a **pilot**
    size, at which their mean loss is alpha, instead of at the size being tested. Bets are thus the
    same at every lambda, which makes the rule monotone (theirs is not), costs no power (the pilot
    is where the decision falls), and stays valid, since the earlier units alone set the pilot.

    The order of the units must not depend on their losses: sorted data void the guarantee, so
    `calibrate` shuffles them.
    """

    name = "wsr"

    def acceptance(self, units: Units, alpha: float, delta: float, tolerance: float) -> Test:
        bets = self.bets(units, alpha, delta)
        goal = -math.log(delta)
        return lambda losses: bool(np.cumsum(np.log1p(bets * (alpha - losses))).max() >= goal)

    def bets(self, units: Units, alpha: float, delta: float) -> Float64[ndarray, " n"]:
        """The bet on every unit, in (0, 1]; each depends on the units before it only."""
        past = units.thinned(_PILOT_PIXELS)
        bets = np.full(units.n, self._bet(units.n, alpha * (1 - alpha), delta))
        for start, stop in reversed(list(_growing(units.n))[1:]):  # so that the past only shrinks
            past = past.first(start)
            bets[start:stop] = self._bet(units.n, _pilot_variance(past, alpha), delta)
        return bets

    def smallest_n(self, alpha: float, delta: float) -> int:
        goal = -math.log(delta)
        n = math.ceil(goal / math.log1p(alpha))
        while n * math.log1p(alpha * self._bet(n, alpha * (1 - alpha), delta)) < goal:
            n += 1
        return n

    @staticmethod
    def _bet(n: int, variance: float, delta: float) -> float:
        return min(1.0, math.sqrt(-2 * math.log(delta) / (n * variance)))


def _growing(n: int) -> Iterator[tuple[int, int]]:
    """Split 0..n into (start, stop) stretches that grow geometrically."""
    start = 0
    while start < n:
        stop = min(n, max(start + 1, int(start * _PILOT_GROWTH)))
        yield start, stop
        start = stop


def _pilot_variance(past: CriticalValues, alpha: float) -> float:
    """Variance about alpha of the past units' losses, at the size that misses alpha of all pixels.

    One pseudo-unit of variance alpha (1 - alpha), the largest that losses in [0, 1] of mean alpha
    can have, stands for what is not known yet; the result never exceeds that value.
    """
    rank = past.values.size - 1 - int(alpha * past.values.size)
    size = np.partition(past.values, rank, axis=None)[rank]
    squares = float(np.square(past.losses(float(size)) - alpha).sum())
    largest = alpha * (1 - alpha)
    return min(largest, (largest + squares) / (past.n + 1))
