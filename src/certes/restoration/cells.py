r"""What being in a cell says about a Gaussian value, said as a Gaussian look at it.

A value :math:`c \sim N(m, s^2)` that was found between two bounds has a truncated normal law. The
look :math:`z = c + \sqrt r e` that leaves the same mean and variance,

.. math:: \frac1r = \frac1v - \frac1{s^2}, \qquad \frac zr = \frac{\bar c}v - \frac m{s^2},

with :math:`\bar c, v` of the truncated law, is expectation propagation's (Minka 2001) factor for
it. Where the value is known much worse than the cell is wide, it is the middle of the cell with a
uniform error's variance, :math:`q^2 / 12`; where it is known much better, it says nothing.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

_log_ndtr = cast(Any, torch.special).log_ndtr  # torch leaves it untyped
# A value so many deviations outside its cell is not known as well as was thought.
_FARTHEST = 8.0
_LEAST, _MOST = 1e-9, 1 - 1e-12
_LOG_NORMALISER = -0.5 * math.log(2 * math.pi)


def looks_at_cells(
    mean: Float[Tensor, "b m"],
    variance: Float[Tensor, "b m"],
    centres: Float[Tensor, "b m"],
    widths: Float[Tensor, " m"],
) -> tuple[Float[Tensor, "b m"], Float[Tensor, "b m"]]:
    """The looks ``z`` and their variances ``r`` that stand for cells.

    Args:
        mean: of each value before its cell was known.
        variance: of each value, likewise.
        centres: of the cells.
        widths: of the cells.
    """
    # Mirrored to the right of its cell's middle, where differences of tails do not cancel.
    off = mean.double() - centres
    side, off = torch.where(off > 0, 1.0, -1.0).to(off), off.abs()
    half = widths.double() / 2
    s = torch.maximum(variance.double().sqrt(), (off - half) / _FARTHEST)
    upper, lower = (half - off) / s, (-half - off) / s
    log_upper: Tensor = _log_ndtr(upper)
    log_share = log_upper + torch.log(-torch.expm1(_log_ndtr(lower) - log_upper))
    at_upper, at_lower = (
        torch.exp(_LOG_NORMALISER - edge**2 / 2 - log_share) for edge in (upper, lower)
    )
    shift = at_lower - at_upper
    # The share of the variance that the cell takes away.
    taken = (upper * at_upper - lower * at_lower + shift**2).clamp(_LEAST, _MOST)
    looks = mean.double() + side * s * shift / taken
    return looks.to(mean), (s**2 * (1 - taken) / taken).to(mean)
