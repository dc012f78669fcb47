r"""Ordinary differential equations with a step size of each sample's own.

The pair of orders 5 and 4 of Dormand and Prince (1980, "A family of embedded Runge-Kutta
formulae"), whose last stage is the first of the next step, under a standard controller (Hairer,
Norsett and Wanner 1993, section II.4). Every sample has a time, a step and an error estimate of its
own, so that none depends on what else is in its batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from certes.errors import InputError

State = Float[Tensor, "b n"]
Times = Float[Tensor, " b"]
Velocity = Callable[[State, Times], State]
"""``(z, t) -> dz/dt``, one time for each sample."""

# Dormand and Prince 1980, table 2: the rows of the tableau, where they are, and the difference of
# the weights of orders 5 and 4. The last row is that of order 5 itself.
STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
NODES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)

_SAFETY, _SMALLEST, _LARGEST = 0.9, 0.2, 10.0  # how a step may differ from the one before
_FIRST = 0.01  # of the interval
_CLOSE = 1e-9  # of a step: what is left of the way then is no step of its own
_MOST = 10_000  # attempts, beyond which no tolerance of use is met


@dataclass(frozen=True)
class Solution:
    """Where every sample arrived.

    Args:
        state: at the end, float64.
        evaluations: of the velocity that each sample needed.
    """

    state: State
    evaluations: Int64[Tensor, " b"]


def relative_rms(error: State, size: State) -> Times:
    """The root mean square of every row of errors, each divided by one plus its entry's size."""
    return (error / (1 + size)).square().mean(1).sqrt()


def integrate(
    velocity: Velocity,
    state: State,
    start: float,
    end: float,
    tolerance: float,
    *,
    norm: Callable[[State, State], Times] = relative_rms,
    advance: Callable[[float], None] = lambda share: None,
) -> Solution:
    r"""Follow ``dz/dt = velocity(z, t)`` from ``start`` to ``end``, in either direction.

    A step is kept if the norm of its estimated error is at most the tolerance. All samples are
    evaluated together until the last of them has arrived.

    Args:
        velocity: of the samples.
        state: where they start.
        start, end: times.
        tolerance: of every step.
        norm: of the rows of the errors, given the sizes of the entries.
        advance: is told each share of the way done, averaged over the samples.

    Raises:
        InputError: if the tolerance is not positive, or cannot be met.
    """
    if not tolerance > 0:
        raise InputError(f"tolerance: {tolerance}; give a positive number")
    z, span = state.double(), end - start
    t, step = (z.new_full((len(z),), value) for value in (start, _FIRST * span))
    slope, attempts = velocity(z, t), torch.zeros_like(t, dtype=torch.int64)
    under_way = t != end
    for _ in range(_MOST):
        if not bool(under_way.any()):
            return Solution(z, 1 + len(STAGES) * attempts)
        attempts += under_way
        arrives = step / span >= (1 - _CLOSE) * (end - t) / span
        step = torch.where(arrives, end - t, step)
        new, new_slope, error = _attempt(velocity, z, t, step, slope)
        size = norm(error, torch.maximum(z.abs(), new.abs())) / tolerance
        kept = under_way & (size <= 1)
        advance(float((step / span)[kept].sum()) / len(z))
        t = torch.where(kept, torch.where(arrives, end, t + step), t)
        z, slope = (_choose(kept, a, b) for a, b in ((new, z), (new_slope, slope)))
        under_way = t != end
        step = torch.where(under_way, step * _factor(size), 0.0)
    raise InputError(
        f"tolerance: {tolerance:g} is not met in {_MOST} steps; give a larger one, or compute the "
        "velocity more precisely"
    )


def _attempt(
    velocity: Velocity, z: State, t: Times, step: Times, slope: State
) -> tuple[State, State, State]:
    """The state after a step, the velocity there, and the error of the state."""
    h, slopes, new = step[:, None], [slope], z
    for row, node in zip(STAGES, NODES, strict=True):
        new = z + h * _weighted(row, slopes)
        slopes.append(velocity(new, t + node * step))
    return new, slopes[-1], h * _weighted(ERROR, slopes)


def _weighted(weights: tuple[float, ...], slopes: list[State]) -> State:
    total = weights[0] * slopes[0]
    for weight, slope in zip(weights[1:], slopes[1:], strict=True):
        total = total + weight * slope
    return total


def _factor(size: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """By how much the next step is longer; an error that is no number asks for the shortest."""
    factor = _SAFETY * size.clamp(min=1e-10) ** -0.2
    return factor.nan_to_num(nan=_SMALLEST).clamp(_SMALLEST, _LARGEST)


def _choose(kept: Bool[Tensor, " b"], new: State, old: State) -> State:
    return torch.where(kept[:, None], new, old)
