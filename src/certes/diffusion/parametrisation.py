r"""What a network may predict, and how to read :math:`x_0` from it.

With :math:`x_t = \alpha x_0 + \sigma e` a network may answer with the noise :math:`e` (Ho et al.
2020), with :math:`x_0`, with the velocity :math:`v = \alpha e - \sigma x_0` (Salimans & Ho 2022),
with the score :math:`-e / \sigma` (Song et al. 2021), or with the posterior mean
:math:`\tilde\mu(x_t, x_0)` of one step of its table (Ho et al. 2020, eq. 7 and table 2). All are
linear in :math:`(x_t, x_0)`, so a prediction's error is the error of :math:`x_0` times a known
factor.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.process import ddim_transition
from certes.diffusion.schedules import DiscreteBetas, Schedule
from certes.errors import ModelError

Picture = Float[Tensor, "b c h w"]
Scalars = Float[Tensor, " b"]

NAMES = ("noise", "x0", "v", "score", "mean")


@dataclass(frozen=True)
class Parametrisation:
    r"""The target :math:`F = a\,x_t + b\,x_0`, its inverse, and how its error scales.

    Args:
        name: ``noise``, ``x0``, ``v``, ``score`` or, for schedules that are tables, ``mean``.
    """

    name: str

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ModelError(f"prediction: {self.name!r}; give one of {', '.join(NAMES)}")

    def coefficients(self, schedule: Schedule, t: Scalars) -> tuple[Scalars, Scalars]:
        r"""``(a, b)`` with :math:`F = a\,x_t + b\,x_0`, float64, one for each time.

        Raises:
            ModelError: for ``mean`` with a schedule that has no single steps.
        """
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        match self.name:
            case "noise":
                return 1 / sigma, -alpha / sigma
            case "score":
                return -1 / sigma**2, alpha / sigma**2
            case "v":
                return alpha / sigma, -(alpha**2 + sigma**2) / sigma
            case "mean":
                return _posterior_mean(schedule, t)
            case _:
                return 0 * alpha, 1 + 0 * alpha

    def target(self, x_t: Picture, x0: Picture, schedule: Schedule, t: Scalars) -> Picture:
        """What the network should have answered."""
        a, b = self._broadcast(x_t, schedule, t)
        return a * x_t + b * x0

    def x0(self, x_t: Picture, output: Picture, schedule: Schedule, t: Scalars) -> Picture:
        """The estimate of ``x_0`` in the network's answer."""
        a, b = self._broadcast(x_t, schedule, t)
        return (output - a * x_t) / b

    def _broadcast(self, x: Picture, schedule: Schedule, t: Scalars) -> tuple[Tensor, Tensor]:
        a, b = self.coefficients(schedule, t)
        return a.to(x)[:, None, None, None], b.to(x)[:, None, None, None]


def _posterior_mean(schedule: Schedule, t: Scalars) -> tuple[Scalars, Scalars]:
    if not isinstance(schedule, DiscreteBetas):
        raise ModelError(
            f"prediction: 'mean' is that of one step of a table, and the {schedule.kind!r} "
            "schedule is none; predict noise, x0 or v, or give a discrete_betas schedule"
        )
    s = (torch.as_tensor(t, dtype=torch.float64) - 1 / schedule.steps).clamp(min=0)
    alpha, sigma = schedule.alpha, schedule.sigma
    step = ddim_transition(alpha(t), sigma(t), alpha(s), sigma(s), eta=1.0)
    return step.a, step.b
