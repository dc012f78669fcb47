r"""Which noise levels a picture is coded at: a grid that both sides know without being told.

A step from :math:`\sigma_t` to :math:`\sigma_s` is expected to carry

.. math:: r = \tfrac12 \log_2 \left(1 + mse(\sigma_t) (\sigma_s^{-2} - \sigma_t^{-2})\right)

bits per value. What it carries beyond the ideal (the error falls on the way) is in all smallest,
for a given number of steps, if :math:`r` grows as the square root of what has been spent; so the
sum after :math:`k` steps is :math:`(\kappa k / 2)^2`. The chain ends where coding the pixels
themselves becomes cheaper.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile

import torch

from certes.diffusion.rates import RateCurve

# Steps to a rate R, in bits per value: 2 sqrt(R) / GROWTH. Half of it doubles the time and saves
# nothing: what shorter steps gain, their indices lose.
GROWTH = 0.06
# What a step should carry in all, so that its index is not dearer than its content.
_LEAST_BITS = 10.0
# Bits paid for one expected bit: what the channel was measured to need.
_OVERHEAD = 1.2
_PER_OCTAVE = 32
_CHECKED_BITS = 64
_CHECK_BITS = 8


@dataclass(frozen=True)
class PlannedStep:
    """A step of the chain.

    Args:
        level: the noise level that it reaches, image units.
        rate: the bits per value spent until there, as planned.
        check_bits: length of the checksum that follows it: about a sixty-fourth of the step.
    """

    level: float
    rate: float
    check_bits: int


@dataclass(frozen=True)
class Plan:
    """The chain of a picture.

    Args:
        steps: all of them, to where sending the pixels themselves would be no dearer.
        lossless: how many of them lead to where the lossless tail is best started.
    """

    steps: list[PlannedStep]
    lossless: int


def make_plan(rates: RateCurve, count: int) -> Plan:
    """The chain of a picture of ``count`` values.

    Levels are rounded to 1/32 octave: the same on every machine.
    """
    steps = list(takewhile(lambda step: step.level >= float(rates.levels[0]), _steps(rates, count)))
    chain = [_OVERHEAD * step.rate for step in steps]
    tails = rates.tail_at(torch.tensor([step.level for step in steps], dtype=torch.float64))
    totals = [spent + float(tail) for spent, tail in zip(chain, tails, strict=True)]
    best = totals.index(min(totals))
    within = sum(spent <= totals[best] for spent in chain)
    return Plan(steps[: max(within, best + 1)], best + 1)


def _steps(rates: RateCurve, count: int) -> Iterator[PlannedStep]:
    snr, spent, mse, octave = 0.0, 0.0, float(rates.mse[-1]), math.inf
    for k in itertools.count():
        share = max((2 * k + 1) * (GROWTH / 2) ** 2, _LEAST_BITS / count)
        wanted = snr + (4**share - 1) / mse
        octave = min(round(-_PER_OCTAVE / 2 * math.log2(wanted)), octave - 1)
        level = _level(octave)
        spent += 0.5 * math.log2(1 + mse * (level**-2 - snr))
        yield PlannedStep(level, spent, min(_CHECK_BITS, 1 + int(share * count / _CHECKED_BITS)))
        snr, mse = level**-2, float(rates.mse_at(level))


def _level(octave: float) -> float:
    """``2^(octave / 32)``, rounded so that no machine's last digit shows."""
    mantissa, exponent = math.frexp(2.0 ** (octave / _PER_OCTAVE))
    return math.ldexp(round(mantissa * 2**30), exponent - 30)
