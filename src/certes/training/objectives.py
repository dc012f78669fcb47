r"""What is minimised.

``simple``: the squared error of what the network predicts (Ho et al. 2020, eq. 14, for any target),

.. math:: L_{simple} = E_{x_0, e, t}\, w \| F(x_t, t) - F^*(x_t, x_0) \|^2 .

A variance head learns beside it, with the mean held fixed so that the variance cannot buy
likelihood by spoiling the mean: a ``residual`` head the Gaussian likelihood of the prediction's
errors, a ``range`` head the terms of the bound (the hybrid objective of Nichol & Dhariwal 2021,
arXiv:2102.09672, eq. 16, whose factor .001 of :math:`T` terms is one term at their :math:`T`).

``bound``: the terms of the variational bound themselves (:mod:`certes.training.bound`), through the
mean and through the variance, fixed or learned (Ho et al. 2020, table 2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from certes.errors import InputError
from certes.networks.denoiser import NetworkDenoiser
from certes.training.bound import VariationalBound
from certes.training.config import TrainingConfig
from certes.training.levels import LevelMoments
from certes.training.noising import NoisyBatch
from certes.training.weights import Weights

Picture = Float[Tensor, "b c h w"]
Scalars = Float[Tensor, " b"]

# The likelihood's gradient is as noisy as a chi-square; in full it slows the mean's learning.
LIKELIHOOD_WEIGHT = 0.1


@dataclass(frozen=True)
class Losses:
    """One batch, a number for each picture; only ``each`` carries gradients.

    Args:
        each: what is differentiated, but for the weights of the drawn times.
        simple: the squared error alone, unweighted.
        variance: what the variance costs: the negative log-likelihood of the errors (nats a value)
            of a ``residual`` head, the bound's term (bits a value) of a ``range`` head or of the
            bound itself, 0 where there is neither.
    """

    each: Scalars
    simple: Scalars
    variance: Scalars


class Objective:
    """What a configuration minimises.

    Args:
        denoiser: how the network's outputs are read.
        config: names the objective, the weights and the variance.
        device: where it is computed.

    Raises:
        InputError: for a bound without a table, or weights that do not go with the objective.
    """

    def __init__(
        self, denoiser: NetworkDenoiser, config: TrainingConfig, device: torch.device
    ) -> None:
        self.denoiser, self.name = denoiser, config.objective
        if self.name == "bound" and config.weights != "uniform":
            raise InputError(
                f"weights: {config.weights!r}, but the bound is what it is; give 'uniform'"
            )
        self.weights = Weights(denoiser, config.weights, device)
        self.bound = None
        if self.name == "bound" or denoiser.head == "range":
            self.bound = VariationalBound(denoiser, config.variance)

    def __call__(self, output: Float[Tensor, "b c_out h w"], batch: NoisyBatch) -> Losses:
        """The losses of a batch."""
        prediction, error_variance = self.denoiser.split(output.float(), batch.t)
        squared = ((prediction - batch.target) ** 2).mean(dim=(1, 2, 3))
        if self.name == "bound" and self.bound is not None:
            terms = self.bound(batch, prediction, error_variance)
            return Losses(terms, squared.detach(), terms.detach())
        weight = self.weights(batch.t, error_variance)
        cost = self._variance_cost(batch, prediction.detach(), error_variance)
        share = 1.0 if self.bound else LIKELIHOOD_WEIGHT
        return Losses(weight * squared + share * cost, squared.detach(), cost.detach())

    @property
    def moments(self) -> LevelMoments | None:
        """What the weights have learned of the noise levels."""
        return self.weights.moments

    def learn(self, t: Scalars, simple: Scalars) -> None:
        """Let the weights learn from the squared errors of a step."""
        self.weights.update(t, simple)

    def _variance_cost(
        self, batch: NoisyBatch, prediction: Picture, error_variance: Picture | None
    ) -> Scalars:
        if error_variance is None:
            return torch.zeros_like(batch.z0[:, 0, 0, 0])
        if self.bound is not None:
            return self.bound(batch, prediction, error_variance)
        squared = (prediction - batch.target) ** 2
        return (squared / error_variance + error_variance.log()).mean(dim=(1, 2, 3)) / 2
