r"""The empirical Bernstein rule: the mean loss, with the variance that the losses show."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from certes.intervals.critical import Units
from certes.intervals.rules.base import Rule

_ROUNDING = 1e-12  # of means of losses in [0, 1]: ties are left to the bound itself


class Bernstein(Rule):
    r"""The mean loss r and the sample variance V (divisor n - 1) of n units against

    .. math:: r + \sqrt{2 V \log(2/\delta) / n} + 7 \log(2/\delta) / (3 (n - 1)) \le \alpha

    (Maurer and Pontil 2009, Theorem 4). Smaller losses can vary more, so this test is not
    monotone, and a bisection would be wrong: sizes of a grid that does not depend on the data are
    tested from the largest down to the first rejection (fixed-sequence testing, Angelopoulos et al.
    2021), each at the full delta. A wrong acceptance needs one at the first size of the sequence
    whose risk exceeds alpha, which has probability at most delta.
    """

    name = "bernstein"

    def smallest_size(
        self, units: Units, alpha: float, delta: float, tolerance: float
    ) -> float | None:
        # Without any variance the mean would have to be this small: the scan ends before.
        largest = alpha - self._least(units.n, delta) + _ROUNDING
        end = units.smallest_accepted(lambda losses: float(losses.mean()) <= largest)
        if end is None:
            return None
        sizes, losses = units.table(above=end)
        rejected = np.flatnonzero(self.upper_bound(losses, delta) > alpha)
        first = int(rejected[-1]) + 1 if len(rejected) else 0
        return float(sizes[first]) if first < len(sizes) else None

    def upper_bound(self, losses: Float64[ndarray, "n g"], delta: float) -> Float64[ndarray, " g"]:
        """Upper confidence bound of the mean of each column, at level 1 - delta; n > 1."""
        n = len(losses)
        spread = np.sqrt(2 * losses.var(axis=0, ddof=1) * math.log(2 / delta) / n)
        return losses.mean(axis=0) + spread + self._least(n, delta)

    @staticmethod
    def _least(n: int, delta: float) -> float:
        """How far the bound lies above the mean of losses that do not vary."""
        return 7 * math.log(2 / delta) / (3 * (n - 1))

    def smallest_n(self, alpha: float, delta: float) -> int:
        return 1 + math.ceil(7 * math.log(2 / delta) / (3 * alpha))
