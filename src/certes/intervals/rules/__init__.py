r"""Rules: which losses are small enough to certify a risk of at most alpha.

The setting is RCPS (Bates, Angelopoulos, Lei, Malik, Jordan 2021): unit i, an image or a group of
images, has at interval size lambda the loss :math:`L_i(\lambda)` in [0, 1], its share of missed
pixels; units are independent and alike, and the risk is :math:`R(\lambda) = E[L_i(\lambda)]`. A
rule with a delta is a test that rejects ":math:`R(\lambda) > \alpha`" wrongly with probability at
most delta; the certified :math:`\hat\lambda` is the smallest lambda down to which the test
succeeds, scanned from the largest. Then :math:`P(R(\hat\lambda) \le \alpha) \ge 1 - \delta`.

    wsr         betting (Waudby-Smith and Ramdas 2023), the narrowest: the default
    hb          Hoeffding-Bentkus, blind to the order of the units
    hoeffding   Hoeffding, the textbook's
    bernstein   empirical Bernstein (Maurer and Pontil 2009)
    crc         conformal risk control: only E[R] <= alpha, over calibrations
    image       split conformal: a new image misses few pixels with probability 1 - alpha

All but ``bernstein`` are **monotone**: when losses are accepted, so are losses that are nowhere
larger. Everything above the smallest accepted lambda is then accepted too, so the scan from the
top needs no grid, and a bisection over the critical values finds its end exactly. Why the end is
valid although it depends on the data:

    Let :math:`\lambda^*` be the smallest lambda with risk at most alpha (it exists: the losses
    fall with lambda and are right-continuous). Suppose :math:`\hat\lambda < \lambda^*`, and take
    any fixed sequence :math:`\lambda_k` that rises to :math:`\lambda^*` from below. From some k
    on :math:`\hat\lambda \le \lambda_k`, so the test succeeded at :math:`\lambda_k`, where the risk
    exceeds alpha. Each of these growing events has probability at most delta; so has their union.

n counts independent units. Counting pixels voids the guarantee, because they come in images:
`certes.intervals.verification` shows by how much.
"""

from __future__ import annotations

from certes.errors import CalibrationError, InputError
from certes.intervals.critical import Units
from certes.intervals.rules.base import MeanRule, MonotoneRule, Promise, Rule
from certes.intervals.rules.bernstein import Bernstein
from certes.intervals.rules.betting import Betting
from certes.intervals.rules.conformal import ConformalRiskControl, ImageLevel
from certes.intervals.rules.hoeffding import Hoeffding, HoeffdingBentkus

__all__ = [
    "RULES",
    "Bernstein",
    "Betting",
    "ConformalRiskControl",
    "Hoeffding",
    "HoeffdingBentkus",
    "ImageLevel",
    "MeanRule",
    "MonotoneRule",
    "Promise",
    "Rule",
    "certify",
    "rule_named",
]

RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Betting(),
        HoeffdingBentkus(),
        Hoeffding(),
        Bernstein(),
        ConformalRiskControl(),
        ImageLevel(),
    )
}


def rule_named(name: str) -> Rule:
    """The rule called `name`. Raises: InputError if there is none."""
    if name not in RULES:
        raise InputError(f"rule: {name!r} is unknown, known are {', '.join(RULES)}")
    return RULES[name]


def certify(units: Units, rule: str, alpha: float, delta: float, tolerance: float = 0.1) -> float:
    """The smallest size that `rule` certifies for these units, in the order they are in.

    Args:
        units: losses of independent units.
        rule: a name in `RULES`.
        alpha: the risk to certify.
        delta: probability with which the certificate may be wrong; rules without one ignore it.
        tolerance: for the rule ``image``: share of pixels that an image may miss.

    Raises: InputError for an unknown rule or levels outside (0, 1); CalibrationError when nothing
        can be certified: too few units, or pixels that no finite size covers.
    """
    chosen = rule_named(rule)
    for name, level in (("alpha", alpha), ("delta", delta), ("tolerance", tolerance)):
        if not 0 < level < 1:
            raise InputError(f"{name}: {level} is not between 0 and 1")
    certain = f" with delta = {delta:g}" if chosen.needs_delta else ""
    claim = f"alpha = {alpha:g}{certain} cannot be certified (rule {rule})"
    wanted = chosen.smallest_n(alpha, delta)
    if units.n < wanted:
        raise CalibrationError(
            f"{claim}: {units.n} independent images or groups, at least {wanted} are needed (pixels"
            " of one image are not independent and do not count); calibrate with more, or with a"
            f" larger alpha{' or delta' if chosen.needs_delta else ''}"
        )
    size = chosen.smallest_size(units, alpha, delta, tolerance)
    if size is None:
        raise CalibrationError(f"{claim}: no finite interval size covers enough of the pixels")
    return size
