r"""Risk-controlling rules: which losses are small enough to certify a risk of at most alpha.

The setting is RCPS (Bates, Angelopoulos, Lei, Malik, Jordan 2021): unit i, an image or a group of
images, has at interval size lambda the loss :math:`L_i(\lambda)` in [0, 1], its share of missed
pixels; units are independent and alike, and the risk is :math:`R(\lambda) = E[L_i(\lambda)]`. A
rule is a test that rejects ":math:`R(\lambda) > \alpha`" wrongly with probability at most delta;
the certified :math:`\hat\lambda` is the smallest lambda down to which the test succeeds, scanned
from the largest. Then :math:`P(R(\hat\lambda) \le \alpha) \ge 1 - \delta`.

Both rules are **monotone**: when losses are accepted, so are losses that are nowhere larger.
Everything above the smallest accepted lambda is then accepted too, so the scan from the top needs
no grid, and a bisection over the critical values finds its end exactly. Why the end is valid
although it depends on the data:

    Let :math:`\lambda^*` be the smallest lambda with risk at most alpha (it exists: the losses
    fall with lambda and are right-continuous). Suppose :math:`\hat\lambda < \lambda^*`, and take
    any fixed sequence :math:`\lambda_k` that rises to :math:`\lambda^*` from below. From some k
    on :math:`\hat\lambda \le \lambda_k`, so the test succeeded at :math:`\lambda_k`, where the risk
    exceeds alpha. Each of these growing events has probability at most delta; so has their union.

n counts independent units. Counting pixels voids the guarantee, because they come in images:
`certes.intervals.verification` shows by how much.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import ClassVar

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from certes.errors import CalibrationError, InputError
from certes.intervals.critical import CriticalValues
from certes.intervals.probability import binomial_cdf

Losses = Float64[ndarray, " n"]

_PILOT_PIXELS = 1024  # pixels per image from which bets are set; more moves a size by about 1e-3
_PILOT_GROWTH = 1.25  # bets are set anew each time this many times as many units have been seen


class Rule(ABC):
    """A test of "the risk exceeds alpha" at level delta, monotone in the losses."""

    name: ClassVar[str]

    @abstractmethod
    def acceptance(
        self, units: CriticalValues, alpha: float, delta: float
    ) -> Callable[[Losses], bool]:
        """The test, as a function of the losses of the units in their order, ``(n,) -> bool``."""

    @abstractmethod
    def smallest_n(self, alpha: float, delta: float) -> int:
        """Number of units that suffices to certify anything: all losses zero is accepted."""


class HoeffdingBentkus(Rule):
    r"""The mean loss against the Hoeffding-Bentkus bound (Bates et al. 2021, Theorem 3).

    Under :math:`R > \alpha`, a mean loss as small as r has probability at most
    :math:`\min\{e^{-n\,kl(r, \alpha)},\; e\,P(Bin(n, \alpha) \le \lceil nr \rceil)\}`. The second
    term takes the ceiling: with the floor, fractional losses would break it by one count.
    """

    name = "hb"

    def acceptance(
        self, units: CriticalValues, alpha: float, delta: float
    ) -> Callable[[Losses], bool]:
        n = units.n
        limit = self.largest_mean(n, alpha, delta)
        # fsum is exact, so the order of the units cannot matter even in the last bit.
        return lambda losses: limit is not None and math.fsum(losses) / n <= limit

    def largest_mean(self, n: int, alpha: float, delta: float) -> float | None:
        """Largest mean loss of n units that is accepted; ``None`` where not even 0 is."""
        if n < self.smallest_n(alpha, delta):
            return None
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


class Betting(Rule):
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

    def acceptance(
        self, units: CriticalValues, alpha: float, delta: float
    ) -> Callable[[Losses], bool]:
        bets = self.bets(units, alpha, delta)
        goal = -math.log(delta)
        return lambda losses: bool(np.cumsum(np.log1p(bets * (alpha - losses))).max() >= goal)

    def bets(self, units: CriticalValues, alpha: float, delta: float) -> Float64[ndarray, " n"]:
        """The bet on every unit, in (0, 1]; each depends on the units before it only."""
        pilot = units.thinned(_PILOT_PIXELS)
        bets = np.empty(units.n)
        for start, stop in _growing(units.n):
            variance = _pilot_variance(pilot.first(start), alpha) if start else alpha * (1 - alpha)
            bets[start:stop] = self._bet(units.n, variance, delta)
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
    """Variance about alpha of the past units' losses, at the size where their mean is alpha.

    One pseudo-unit of variance alpha (1 - alpha), the largest that losses in [0, 1] of mean alpha
    can have, stands for what is not known yet; the result never exceeds that value.
    """
    rank = past.values.size - 1 - int(alpha * past.values.size)
    size = np.partition(past.values, rank, axis=None)[rank]
    squares = float(np.square(past.losses(float(size)) - alpha).sum())
    largest = alpha * (1 - alpha)
    return min(largest, (largest + squares) / (past.n + 1))


RULES: dict[str, Rule] = {rule.name: rule for rule in (Betting(), HoeffdingBentkus())}


def certify(units: CriticalValues, rule: str, alpha: float, delta: float) -> float:
    """The smallest size that `rule` certifies for these units, in the order they are in.

    Raises: InputError for an unknown rule or levels outside (0, 1); CalibrationError when nothing
        can be certified: too few units, or pixels that no finite size covers.
    """
    if rule not in RULES:
        raise InputError(f"rule: {rule!r} is unknown, known are {', '.join(RULES)}")
    for name, level in (("alpha", alpha), ("delta", delta)):
        if not 0 < level < 1:
            raise InputError(f"{name}: {level} is not between 0 and 1")
    size = units.smallest_accepted(RULES[rule].acceptance(units, alpha, delta))
    if size is None:
        raise _refusal(units, rule, alpha, delta)
    return size


def _refusal(units: CriticalValues, rule: str, alpha: float, delta: float) -> CalibrationError:
    wanted = RULES[rule].smallest_n(alpha, delta)
    claim = f"alpha = {alpha:g} with delta = {delta:g} cannot be certified (rule {rule})"
    if units.n < wanted:
        return CalibrationError(
            f"{claim}: {units.n} independent images or groups, at least {wanted} are needed;"
            " calibrate with more, or with a larger alpha or delta"
        )
    return CalibrationError(f"{claim}: no finite interval size covers enough of the pixels")
