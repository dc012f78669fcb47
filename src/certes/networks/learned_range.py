r"""The learned range of reverse variances, read as what is not known of the clean picture.

Improved DDPM (Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 15) and ADM after it let a network say
where, between its two bounds, the variance of the reverse step of its table lies:

.. math:: \log \Sigma_i = f \log \beta_i + (1 - f) \log \tilde\beta_i, \qquad f = (v + 1) / 2 .

A reverse step's variance is :math:`\Sigma = \tilde\beta + b^2\, Var[z_0 | x_t]`, with the weight
:math:`b` of :math:`z_0` in the mean of :math:`q(x_{t-1} | x_t, z_0)`. Since
:math:`\beta_i - \tilde\beta_i = b^2 \sigma_i^2`, the upper bound says that nothing at all is known:

.. math:: Var[z_0 | x_t] = \sigma_i^2\, \frac{(\beta_i / \tilde\beta_i)^f - 1}
                                            {\beta_i / \tilde\beta_i - 1} .

The first step has :math:`\tilde\beta_0 = 0` and :math:`b = 1`; in its logarithm the entry 1 stands
in for it, and :math:`Var[z_0 | x_t] = \Sigma_0`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.schedules import DiscreteBetas

# A network may leave its range a little; a variance must stay positive.
_LEAST_FRACTION = 1e-4


def learned_range_variance(
    v: Float[Tensor, "b c h w"], schedule: DiscreteBetas, t: Float[Tensor, " b"]
) -> Float[Tensor, "b c h w"]:
    r""":math:`Var[z_0 | x_t]` of every pixel, network units squared, in the precision of ``v``.

    Between the entries of the table, the share of :math:`\sigma_t^2` is that of the nearest one.

    Args:
        v: what the network says, -1 for the lower and 1 for the upper bound.
        schedule: its table.
        t: times.
    """
    fraction = ((v.double() + 1) / 2).clamp(min=_LEAST_FRACTION)
    index = schedule.index(t).round().clamp(min=0)
    # log(beta_i / beta~_i) = 2 log(sigma_i / sigma_{i-1})
    entry = schedule.time_of_index(index.clamp(min=1))
    before = schedule.time_of_index(index.clamp(min=1) - 1)
    range_ = _broadcast(2 * (schedule.sigma(entry) / schedule.sigma(before)).log())
    share = torch.expm1(fraction * range_) / torch.expm1(range_)
    first = torch.exp((fraction - 1) * _first_range(schedule))
    share = torch.where(_broadcast(index) == 0, first, share)
    return (share * _broadcast(schedule.sigma(t)) ** 2).to(v)


def _first_range(schedule: DiscreteBetas) -> float:
    r""":math:`\log(\beta_0 / \tilde\beta_1)`; a table of one step has no other entry, hence 0."""
    if schedule.steps == 1:
        return 0.0
    second = schedule.sigma(schedule.time_of_index(1)) ** 2
    return float((second / schedule.betas[1]).log())  # beta~_1 = beta_1 beta_0 / sigma_1^2


def _broadcast(values: Float[Tensor, " b"]) -> Float[Tensor, "b 1 1 1"]:
    return values[:, None, None, None]
