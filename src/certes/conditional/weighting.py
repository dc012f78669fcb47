r"""The weighting matrix :math:`\Lambda(t)` of conditional score matching.

.. math:: \mathcal{L} = \tfrac12 E\, v^T \Lambda(t)\, v, \qquad
          v = \nabla_{z_t} \ln p(z_t | z_0) - s_\theta(z_t, t), \quad z_t = (x_t, y_t)

Every positive diagonal :math:`\Lambda = \mathrm{diag}(\lambda_x I, \lambda_y I)` has the same
minimiser. With :math:`\Lambda^{MLE} = \mathrm{diag}(g_x(t)^2 I, g_y(t)^2 I)` the loss bounds the
joint negative log-likelihood (Batzolis et al. 2021, theorem 2; some printings have :math:`g_x` in
the y block too, with which the bound may fail where y diffuses faster than x).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from certes.diffusion.schedules import Schedule
from certes.errors import InputError
from certes.networks.conditional import Block

Scalars = Float[Tensor, " b"]


class Weighting(ABC):
    r"""A positive diagonal :math:`\Lambda(t)`, constant over each block."""

    name: ClassVar[str]

    @abstractmethod
    def __call__(self, schedule: Schedule, block: Block, t: Scalars) -> Scalars:
        r""":math:`\lambda(t)` of a block, for errors of scores in image units; float64.

        Args:
            schedule: the block's own noise.
            block: its units.
            t: times.
        """


class MaximumLikelihood(Weighting):
    """The diffusion coefficient of the block itself, squared."""

    name = "mle"

    def __call__(self, schedule: Schedule, block: Block, t: Scalars) -> Scalars:
        r""":math:`g(t)^2`."""
        return schedule.diffusion_squared(t)


class Epsilon(Weighting):
    """Errors of the predicted noise count alike at all times (Ho et al. 2020, eq. 14)."""

    name = "epsilon"

    def __call__(self, schedule: Schedule, block: Block, t: Scalars) -> Scalars:
        r""":math:`\sigma(t)^2`."""
        return schedule.sigma(t) ** 2


class Velocity(Weighting):
    """Errors of the predicted velocity count alike (Salimans & Ho 2022).

    Noise errors at low noise, picture errors at high noise: what decides how a picture looks is not
    drowned by what decides its last grey level.
    """

    name = "velocity"

    def __call__(self, schedule: Schedule, block: Block, t: Scalars) -> Scalars:
        r""":math:`\sigma^2 (1 + \rho^2)`."""
        return schedule.sigma(t) ** 2 * (1 + block.ratio(schedule.noise_level(t)) ** 2)


WEIGHTINGS: dict[str, Weighting] = {
    weighting.name: weighting for weighting in (MaximumLikelihood(), Epsilon(), Velocity())
}


def weighting_named(name: str) -> Weighting:
    """The weighting of that name.

    Raises:
        InputError: if there is none.
    """
    if name not in WEIGHTINGS:
        raise InputError(f"weighting: {name!r}; give one of {', '.join(WEIGHTINGS)}")
    return WEIGHTINGS[name]
