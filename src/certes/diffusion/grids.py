"""Grids of noise levels: where a solver calls the denoiser.

A grid is a descending float64 tensor of noise levels (sigma / alpha) followed by zero, so ``steps``
levels mean ``steps`` network calls. With the :class:`~certes.diffusion.schedules.EDM` schedule the
levels are times already; :func:`times_of` finds the times of any other schedule.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.schedules import Schedule
from certes.errors import InputError

Grid = Float[Tensor, " steps_and_end"]


def log_sigma_grid(sigma_max: float, sigma_min: float, steps: int) -> Grid:
    """``steps`` levels from ``sigma_max`` to ``sigma_min``, evenly spaced in log-SNR, then zero.

    Args:
        sigma_max: first level, in the units of ``x_0``.
        sigma_min: last level before zero.
        steps: number of network calls.
    """
    _check(sigma_max, sigma_min, steps)
    ends = torch.tensor([sigma_max, sigma_min], dtype=torch.float64).log()
    return _close(torch.lerp(ends[0], ends[1], _ramp(steps)).exp())


def karras_grid(sigma_max: float, sigma_min: float, steps: int, rho: float = 7.0) -> Grid:
    r"""Levels evenly spaced in :math:`\sigma^{1/\rho}`, then zero (Karras et al. 2022, eq. 5).

    Args:
        sigma_max: first level, in the units of ``x_0``.
        sigma_min: last level before zero.
        steps: number of network calls.
        rho: how much the grid favours low noise.
    """
    _check(sigma_max, sigma_min, steps)
    ends = torch.tensor([sigma_max, sigma_min], dtype=torch.float64) ** (1 / rho)
    return _close(torch.lerp(ends[0], ends[1], _ramp(steps)) ** rho)


def times_of(schedule: Schedule, levels: Grid) -> Grid:
    """The times at which ``schedule`` has these noise levels.

    Raises:
        InputError: if the schedule does not reach one of them (zero noise, for instance).
    """
    return schedule.time(-2 * levels.log())


def _ramp(steps: int) -> Float[Tensor, " steps"]:
    return torch.linspace(0, 1, steps, dtype=torch.float64)


def _close(levels: Float[Tensor, " steps"]) -> Grid:
    return torch.cat([levels, levels.new_zeros(1)])


def _check(sigma_max: float, sigma_min: float, steps: int) -> None:
    if not 0 < sigma_min < sigma_max:
        raise InputError(
            f"sigma_max, sigma_min: {sigma_max}, {sigma_min}; give 0 < sigma_min < sigma_max"
        )
    if steps < 1:
        raise InputError(f"steps: {steps}; give at least 1")
