r"""The variational bound on the log-likelihood, one step of its table at a time.

.. math:: L = L_T + \sum_{i=1}^{T-1} D_{KL}(q(x_{i-1} | x_i, x_0) \| p(x_{i-1} | x_i))
              - \log p(x_0 | x_{i=0})

(Ho et al. 2020, eq. 5, with the table's 0-based index :math:`i`; :math:`L_T` has no parameters).
Both sides of a step are Gaussian, of means that differ by :math:`b (z_0 - \hat z_0)` and variances
:math:`\tilde\beta` and :math:`v`. A prediction's error is that of :math:`z_0` times a known factor,
so all of it is written in the units of the network's target and loses no digits:

.. math:: L_i = \frac12 \left[\log\frac{v}{\tilde\beta} + \frac{\tilde\beta + \kappa (F^* - F)^2}{v}
                - 1\right], \qquad v = \tilde\beta + \kappa\, Var[F^*] .

The last step is a Gaussian cut into grey levels (eq. 13). There :math:`\tilde\beta = 0`; where the
variance is fixed, that of the next entry stands in for it, as in the paper's code. The same terms
with the network at rest are :mod:`certes.diffusion.likelihood`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from certes.diffusion.likelihood import log_probability
from certes.diffusion.parametrisation import Parametrisation
from certes.diffusion.process import Transition, ddim_transition
from certes.diffusion.schedules import DiscreteBetas
from certes.errors import InputError
from certes.networks.denoiser import NetworkDenoiser
from certes.training.config import FixedVariance
from certes.training.noising import NoisyBatch

Picture = Float[Tensor, "b c h w"]
Scalars = Float[Tensor, " b"]


@dataclass(frozen=True)
class TableStep:
    r"""Steps from entries of a table to the ones before, float64, one for each picture.

    Args:
        first: whether it is the first entry, whose step ends at the clean picture.
        kappa: :math:`\kappa`: from squared errors of predictions to those of the step's mean.
        posterior: :math:`\tilde\beta`, for the first entry that of the next.
        forward: :math:`\beta`, for the first entry that of the next.
    """

    first: Bool[Tensor, " b"]
    kappa: Scalars
    posterior: Scalars
    forward: Scalars


def table_step(schedule: DiscreteBetas, parametrisation: Parametrisation, t: Scalars) -> TableStep:
    """The steps at times of the table's entries."""
    index = schedule.index(t).round()
    later = index.clamp(min=1)
    _, b = parametrisation.coefficients(schedule, t)
    kappa = (_transition(schedule, index).b / b) ** 2
    depth = schedule.log_alpha(schedule.time_of_index(later))
    before = schedule.log_alpha(schedule.time_of_index(later - 1))
    forward = -torch.expm1(2 * (depth - before))
    return TableStep(index == 0, kappa, _transition(schedule, later).std ** 2, forward)


def _transition(schedule: DiscreteBetas, index: Scalars) -> Transition:
    t, s = schedule.time_of_index(index), schedule.time_of_index(index - 1)
    alpha, sigma = schedule.alpha, schedule.sigma
    return ddim_transition(alpha(t), sigma(t), alpha(s), sigma(s), eta=1.0)


class VariationalBound:
    """One term of the bound for each picture, at the entry that the picture drew.

    ``T`` times its mean over uniform entries is the bound but for :math:`L_T`.

    Args:
        denoiser: knows the table and what the network's outputs are.
        fixed: the variance of the reverse steps if the network learns none.

    Raises:
        InputError: if the schedule is no table of at least two entries.
    """

    def __init__(self, denoiser: NetworkDenoiser, fixed: FixedVariance) -> None:
        schedule = denoiser.schedule
        if not isinstance(schedule, DiscreteBetas) or schedule.steps < 2:
            raise InputError(
                f"objective: the bound is a sum over the steps of a table, and the "
                f"{schedule.kind!r} schedule has none; give a discrete_betas schedule of two "
                "steps or more, or objective 'simple' without a 'range' head"
            )
        self.denoiser, self.schedule, self.fixed = denoiser, schedule, fixed

    def __call__(
        self, batch: NoisyBatch, prediction: Picture, error_variance: Picture | None
    ) -> Scalars:
        """The terms, bits per dimension.

        Args:
            batch: the noisy pictures.
            prediction: the network's.
            error_variance: of its prediction's errors, if it says one.
        """
        step = table_step(self.schedule, self.denoiser.parametrisation, batch.t)
        kappa, posterior = (values[:, None, None, None] for values in (step.kappa, step.posterior))
        nats = self._divergence(step, (prediction - batch.target) ** 2, error_variance)
        unknown = posterior if error_variance is None else kappa * error_variance
        first = step.first
        decoding = self._decoding(batch.of(first), prediction[first], unknown[first])
        return nats.index_put((first,), decoding).mean(dim=(1, 2, 3)) / math.log(2)

    def _divergence(
        self, step: TableStep, squared: Picture, error_variance: Picture | None
    ) -> Picture:
        r""":math:`L_i` of every pixel, nats, by :math:`v / \tilde\beta - 1`, which may be tiny."""
        ratio = (step.kappa / step.posterior).to(squared)[:, None, None, None]
        if error_variance is not None:
            excess = ratio * error_variance
        else:
            wide = (step.forward / step.posterior - 1) * (self.fixed == "large")
            excess = wide.to(squared)[:, None, None, None]
        return (torch.log1p(excess) + (ratio * squared - excess) / (1 + excess)) / 2

    def _decoding(
        self, batch: NoisyBatch, prediction: Picture, variance: Float[Tensor, "b ..."]
    ) -> Picture:
        r""":math:`-\log p(x_0 | x_{i=0})` of every pixel, nats, of pictures at the first entry."""
        denoiser = self.denoiser
        z0 = denoiser.parametrisation.x0(batch.x_t, prediction, self.schedule, batch.t)
        x0, mean = (denoiser.center + denoiser.scale * z for z in (batch.z0, z0))
        return -log_probability(x0, mean, denoiser.scale * variance.sqrt()).to(prediction)
