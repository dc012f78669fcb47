r"""At which noise levels a step trains.

``uniform``: independent times; of a table its entries, as in Ho et al. 2020, algorithm 1.
``stratified``: one time in each of equal strata, in random order, which takes most of the times'
part out of the gradient's noise. ``importance``: in proportion to the root mean square of the
loss, :math:`p_k \propto \sqrt{E[L^2]}`, with each picture weighted by :math:`1 / (K p_k)`, so that
nothing but the variance changes (Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 18).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.schedules import DiscreteBetas, Schedule
from certes.training.config import TimesName
from certes.training.levels import LevelMoments

# Importance sampling begins when every stratum has been seen this often, and keeps a small share
# of uniform draws, so that a level whose loss was once small is seen again.
_VISITS = 10
_UNIFORM_SHARE = 1e-3
_STRATA = 100


@dataclass(frozen=True)
class Drawn:
    """Times of a batch, float64.

    Args:
        t: times of the schedule.
        weight: of each picture's loss, 1 on average over the draws.
    """

    t: Float[Tensor, " b"]
    weight: Float[Tensor, " b"]


class TimeSampler:
    """Draws the times of every step.

    Args:
        schedule: a table's times are those of its entries.
        how: ``uniform``, ``stratified`` or ``importance``.
        device: where it is drawn.
    """

    def __init__(self, schedule: Schedule, how: TimesName, device: torch.device) -> None:
        self.how = how
        self.steps = schedule.steps if isinstance(schedule, DiscreteBetas) else None
        strata = self.steps or _STRATA
        self.moments = LevelMoments(strata, device) if how == "importance" else None

    def draw(self, count: int, generator: torch.Generator) -> Drawn:
        """Times of ``count`` pictures; the generator is on the sampler's device."""
        draw = independent if self.how == "uniform" else stratified
        position, weight = draw(generator, count), None
        if self.moments is not None:
            position, weight = importance(position, probabilities(self.moments))
        t = position if self.steps is None else _entries(position, self.steps)
        return Drawn(t, torch.ones_like(t) if weight is None else weight)

    def update(self, t: Float[Tensor, " b"], loss: Float[Tensor, " b"]) -> None:
        """Learn from the unweighted losses of a step."""
        if self.moments is not None:
            # The time (i + 1) / T of a table's entry i lies at the end of its stratum.
            position = t if self.steps is None else t - 0.5 / self.steps
            self.moments.update(position, loss)


def _entries(position: Float[Tensor, " b"], steps: int) -> Float[Tensor, " b"]:
    return ((position * steps).floor().clamp(max=steps - 1) + 1) / steps


def independent(generator: torch.Generator, count: int) -> Float[Tensor, " b"]:
    """Independent numbers in [0, 1), float64."""
    return torch.rand(count, generator=generator, dtype=torch.float64, device=generator.device)


def stratified(generator: torch.Generator, count: int) -> Float[Tensor, " b"]:
    """Numbers in [0, 1), one in each of ``count`` equal strata, in random order, float64."""
    offsets = independent(generator, count)
    order = torch.randperm(count, generator=generator, device=generator.device)
    return (order + offsets) / count


def probabilities(moments: LevelMoments) -> Float[Tensor, " k"]:
    """Of every stratum; equal until all are known."""
    uniform = torch.full_like(moments.square, 1 / moments.strata)
    size = moments.square.sqrt()
    known = (moments.visits >= _VISITS).all() & (size.sum() > 0)
    sized = _UNIFORM_SHARE * uniform + (1 - _UNIFORM_SHARE) * size / size.sum()
    return torch.where(known, sized, uniform)


def importance(
    uniform: Float[Tensor, " b"], p: Float[Tensor, " k"]
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Positions in [0, 1) with density ``K p_k`` in stratum k, and their weights ``1 / (K p_k)``.

    Args:
        uniform: numbers in [0, 1), spread evenly; so are, then, the positions.
        p: probabilities of the K strata.
    """
    ends = p.cumsum(0)
    ends = ends / ends[-1]
    k = torch.searchsorted(ends, uniform, right=True).clamp(max=len(p) - 1)
    share = ((uniform - (ends[k] - p[k])) / p[k]).clamp(0, 1 - 1e-9)
    return (k + share) / len(p), 1 / (len(p) * p[k])
