r"""What errors of the scores cost, in nats: the bound of theorem 2 (Batzolis et al. 2021).

.. math:: KL(p_0 \| p_\theta) \le KL(p_1 \| \pi)
          + \frac12 \int_0^1 E\left[ v^T \Lambda^{MLE}(t)\, v \right] dt, \qquad
          v = \nabla \ln p(z_t) - s_\theta(z_t, t)

for pairs :math:`z = (x, y)` that both diffuse, where :math:`p_\theta` is what the reverse process
makes of the prior :math:`\pi` (Song et al. 2021, arXiv:2101.09258, theorem 1). It is an equality if
:math:`\pi` and :math:`s_\theta` are those of another law of pairs. A condition that stays clean is
given, and both divergences are then those of :math:`x | y`, averaged over y.

Here is the integral, for models of problems whose scores are known. The first term depends on no
model; it is small only where the last noise drowns the pairs, which that of a CMDE's y does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from certes.conditional.estimators import Estimator
from certes.conditional.weighting import MaximumLikelihood, Weighting
from certes.diffusion.denoiser import ConditionalDenoiser, JointlyDenoised
from certes.diffusion.schedules import Schedule
from certes.errors import InputError
from certes.networks.conditional import Block

Values = Float[Tensor, "b ..."]
Scalars = Float[Tensor, " b"]

# What a weighting that depends on a network's units is asked about: image units.
_IMAGE_UNITS = Block(channels=1, center=0.0, scale=1.0)


@dataclass(frozen=True)
class ScoreErrors:
    """What the errors of the scores of each pair cost, nats, float64.

    Args:
        x: of the picture's scores.
        y: of the condition's; 0 where it does not diffuse.
    """

    x: Scalars
    y: Scalars

    @property
    def nats(self) -> float:
        """The integral, averaged over pairs."""
        return float((self.x + self.y).mean())

    @property
    def standard_error(self) -> float:
        """Of :attr:`nats`, from the spread of the pairs."""
        return float((self.x + self.y).std() / len(self.x) ** 0.5)


@torch.no_grad()
def score_matching_error(
    estimator: Estimator,
    denoiser: ConditionalDenoiser,
    exact: ConditionalDenoiser,
    pair: tuple[Float[Tensor, "b c h w"], Float[Tensor, " b *out"]],
    generator: torch.Generator,
    weighting: Weighting | None = None,
    times: int = 32,
) -> ScoreErrors:
    r""":math:`\frac12 \int E[v^T \Lambda v] dt`: by quadrature over times, Monte Carlo over pairs.

    Args:
        estimator: how the blocks diffuse.
        denoiser: the model.
        exact: what a perfect model would answer.
        pair: draws of pictures and conditions, image units.
        generator: of the noise, on the device of the pictures; new for every time.
        weighting: :math:`\Lambda`; only :class:`~certes.conditional.weighting.MaximumLikelihood`,
            the default, makes it a bound. Networks' units are taken to be image units.
        times: nodes of the Gauss-Legendre rule; both denoisers are called once for each.

    Raises:
        InputError: if the condition diffuses and the model does not estimate it.
    """
    weigh = MaximumLikelihood() if weighting is None else weighting
    x0, y = pair
    cost_x, cost_y = torch.zeros(2, len(x0), dtype=torch.float64, device=x0.device)
    nodes, shares = np.polynomial.legendre.leggauss(times)
    for node, share in zip(nodes.tolist(), shares.tolist(), strict=True):
        t = torch.full_like(cost_x, (1 + node) / 2)
        asked = (*_noisy(estimator.x, x0, t, generator), *_noisy(estimator.y, y, t, generator))
        answer, truth = denoiser(*asked), exact(*asked)
        error_x = answer.x.mean.double() - truth.x.mean.double()
        cost_x += share / 2 * _cost(estimator.x, weigh, t, error_x)
        if estimator.predicts_y:
            cost_y += share / 2 * _cost(estimator.y, weigh, t, _condition_error(answer, truth))
    return ScoreErrors(cost_x, cost_y)


def _noisy(
    schedule: Schedule, clean: Values, t: Scalars, generator: torch.Generator
) -> tuple[Values, Scalars]:
    """Values with noise, and its level, as denoisers see them."""
    noise = torch.randn(clean.shape, generator=generator, device=clean.device, dtype=clean.dtype)
    level = schedule.noise_level(t).to(clean)
    return clean + level.reshape(-1, *(1,) * (clean.ndim - 1)) * noise, level


def _condition_error(answer: JointlyDenoised, truth: JointlyDenoised) -> Values:
    if answer.y is None or truth.y is None:
        raise InputError(
            "denoiser: does not estimate the condition, which diffuses under this estimator; give "
            "a model that predicts both, or a 'cde' estimator"
        )
    return answer.y.double() - truth.y.double()


def _cost(schedule: Schedule, weighting: Weighting, t: Scalars, error: Values) -> Scalars:
    r""":math:`\frac12 \lambda |v|^2`, with :math:`v = \alpha (E[x_0] - D_\theta) / \sigma^2`."""
    scale = schedule.alpha(t) / schedule.sigma(t) ** 2
    squared = error.flatten(1).square().sum(1)
    return weighting(schedule, _IMAGE_UNITS, t) * scale**2 * squared / 2
