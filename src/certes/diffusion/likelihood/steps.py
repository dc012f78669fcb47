"""The grid of the bound, and how its steps are shared out when not every one is taken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from certes.diffusion.grids import Grid, times_of
from certes.diffusion.noise import stream_seeds
from certes.diffusion.schedules import EDM, DiscreteBetas, Schedule, linear_betas
from certes.errors import InputError

STEPS = 1000
_POWER = 10  # of the pictures that :func:`strata` has in mind
_HALF = 0.5  # image units for one unit of the paper's process, whose pictures lie in [-1, 1]


def bound_times(schedule: Schedule, scale: float, steps: int | None = None) -> Grid:
    """Descending times at which the bound is evaluated, then 0 for the picture.

    Of a table they are its entries, or an even choice of them. Any other schedule is evaluated at
    the noise levels of DDPM's own table, as far as it reaches them, so that bounds compare: from
    where a picture is worth 1e-5 bits to 1.3 grey levels, where its own bins take over. Their steps
    grow towards the picture; were they even in log-SNR, the variance that the paper gives to the
    last step would be far too small.

    Args:
        schedule: of the process.
        scale: image units for one of the process.
        steps: how many; by default all of a table, else as many as the paper's 1000.

    Raises:
        InputError: for fewer than two steps, or more than a table has.
    """
    table = schedule.steps if isinstance(schedule, DiscreteBetas) else None
    steps = table or STEPS if steps is None else steps
    if steps < 2 or (table is not None and steps > table):
        most = "" if table is None else f" and at most {table}, the entries of the model's table"
        raise InputError(f"steps: {steps}; give at least 2{most}")
    if table is None:
        return _closed(times_of(schedule, _levels(schedule, scale, steps)))
    return _closed(torch.linspace(table, 1, steps, dtype=torch.float64).round() / table)


def strata(schedule: Schedule, times: Grid, levels: int | None) -> list[range]:
    """The steps of the grid but the last, in ``levels`` groups of neighbours.

    The groups have about equal shares of ``log(1 + 10 SNR)``: they cost the same if pictures are
    white noise of variance 10 in the process's units, which stands for what is large in real ones.
    With as many steps in each, most draws would fall where nothing of a picture is to be seen yet.

    Args:
        schedule: of the process.
        times: the grid.
        levels: how many groups; ``None``, or more than there are steps, makes one of every step.
    """
    count = len(times) - 2
    wanted = count if levels is None else min(levels, count)
    information = torch.nn.functional.softplus(schedule.log_snr(times[:-1]) + math.log(_POWER))
    spent = (information - information[0]) / (information[-1] - information[0])
    order = torch.arange(1, wanted)
    edges = torch.searchsorted(spent, order / wanted)
    # A long step may be worth several shares; none of the groups is left without one.
    edges = order + torch.cummax((edges - order).clamp(0, count - wanted), dim=0)[0]
    return [range(a, b) for a, b in pairwise([0, *(int(edge) for edge in edges), count])]


def drawn_steps(
    groups: Sequence[range], seed: int, names: Sequence[str]
) -> Int64[Tensor, "b groups"]:
    """One step of each group for each picture, uniform, whatever other pictures there are."""
    start = torch.tensor([group.start for group in groups])
    size = torch.tensor([len(group) for group in groups])
    seeds = stream_seeds(seed, [f"{name}/steps" for name in names])
    shares = torch.stack([_uniform(seed, len(groups)) for seed in seeds])
    return start + (shares * size).long()


def _uniform(seed: int, count: int) -> Float[Tensor, " n"]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, generator=generator, dtype=torch.float64)


def _levels(schedule: Schedule, scale: float, steps: int) -> Float[Tensor, " steps"]:
    """Noise levels in process units: DDPM's, between the ends of the schedule."""
    table, unit = linear_betas(STEPS), _HALF / scale
    # The times of EDM are noise levels, and do not stop at 1 as those of the others do.
    top = math.inf if isinstance(schedule, EDM) else float(schedule.noise_level(1.0))
    ends = table.noise_level(torch.tensor([1, 1 / STEPS], dtype=torch.float64))
    ends = ends.clamp(float(schedule.noise_level(0.0)) / unit, top / unit)
    first, last = table.time(-2 * ends.log())
    return unit * table.noise_level(torch.lerp(first, last, torch.linspace(0, 1, steps).double()))


def _closed(times: Float[Tensor, " steps"]) -> Grid:
    return torch.cat([times, times.new_zeros(1)])
