r"""Hoeffding's rules: the mean loss against bounds that know only that losses lie in [0, 1]."""

from __future__ import annotations

import math

from certes.intervals.probability import binomial_cdf
from certes.intervals.rules.base import MeanRule


class Hoeffding(MeanRule):
    r"""The mean loss r against :math:`r + \sqrt{\log(1/\delta) / 2n} \le \alpha`.

    The simplest bound (Hoeffding 1963; Bates et al. 2021, Proposition 2), and the widest: it takes
    the losses' variance to be 1/4, where at a mean of alpha it is at most alpha (1 - alpha).
    """

    name = "hoeffding"

    def largest_mean(self, n: int, alpha: float, delta: float) -> float:
        return alpha - math.sqrt(-math.log(delta) / (2 * n))

    def smallest_n(self, alpha: float, delta: float) -> int:
        n = max(1, math.floor(-math.log(delta) / (2 * alpha**2)))
        while self.largest_mean(n, alpha, delta) < 0:
            n += 1
        return n


class HoeffdingBentkus(MeanRule):
    r"""The mean loss against the Hoeffding-Bentkus bound (Bates et al. 2021, Theorem 3).

    Under :math:`R > \alpha`, a mean loss as small as r has probability at most
    :math:`\min\{e^{-n\,kl(r, \alpha)},\; e\,P(Bin(n, \alpha) \le \lceil nr \rceil)\}`. The second
    term takes the ceiling: with the floor, fractional losses would break it by one count.
    """

    name = "hb"

    def largest_mean(self, n: int, alpha: float, delta: float) -> float:
        if n < self.smallest_n(alpha, delta):
            return -1.0
        return max(_largest_hoeffding(n, alpha, delta), _largest_bentkus(n, alpha, delta))

    def smallest_n(self, alpha: float, delta: float) -> int:
        return math.ceil(math.log(delta) / math.log1p(-alpha))


def _largest_hoeffding(n: int, alpha: float, delta: float) -> float:
    """Largest r <= alpha with ``exp(-n kl(r, alpha)) <= delta``, from below."""
    low, high = 0.0, alpha
    while low < (middle := (low + high) / 2) < high:
        small = n * _kl(middle, alpha) >= -math.log(delta)
        low, high = (middle, high) if small else (low, middle)
    return low


def _largest_bentkus(n: int, alpha: float, delta: float) -> float:
    """Largest ``k / n`` with ``e P(Bin(n, alpha) <= k) <= delta``; 0 if there is none."""
    low, high = 0, n
    while high - low > 1:
        middle = (low + high) // 2
        small = math.e * binomial_cdf(middle, n, alpha) <= delta
        low, high = (middle, high) if small else (low, middle)
    return low / n


def _kl(a: float, b: float) -> float:
    """Relative entropy of Bernoulli(a) from Bernoulli(b), nats, for 0 < a < 1."""
    return a * math.log(a / b) + (1 - a) * math.log((1 - a) / (1 - b))
