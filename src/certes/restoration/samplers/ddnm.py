r"""DDNM+ (Wang et al. 2023, arXiv:2212.00490): the measured part is put in place at every step.

In the variance-exploding form and the operator's singular basis, with :math:`\bar y_i` the measured
coefficient and :math:`a_i = \sigma_y / s_i` its noise, the estimate is corrected and the step to
level :math:`\sigma_s` adds what noise the correction has not brought along,

.. math::
    \hat x_i' = \hat x_i + \lambda_i (\bar y_i - \hat x_i), \qquad
    \bar x_i = \hat x_i' + \gamma_i \left(\eta\, e_i + \sqrt{1-\eta^2}\, \hat e_i\right),

    \lambda_i = \min(1, \sigma_s / a_i), \qquad \gamma_i^2 = \sigma_s^2 - \lambda_i^2 a_i^2,

with :math:`e` fresh noise and :math:`\hat e` what the denoiser took for noise (where nothing is
measured :math:`\lambda = 0`, :math:`\gamma = \sigma_s`). Without measurement noise this is DDNM,
with DDIM steps as in the authors' code, and ends exactly on the measurement.

Two things are not as published. The paper budgets the measurement's noise against that of one
ancestral step, as if it were drawn anew each time; it is the same at every step and would add up,
so here, as in the authors' shorter code, :math:`\lambda` and :math:`\gamma` share the whole level.
Their longer code, which goes by singular values, is the step of DDRM whenever there is noise, and
its operators for blur pair singular values with the wrong vectors.

No posterior sampler: measured coefficients are followed without fresh noise, so samples differ too
little.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.grids import Grid, log_sigma_grid
from certes.diffusion.noise import NoiseSource
from certes.diffusion.solvers.state import State, steps_of
from certes.restoration.measurement import SpectralMeasurement
from certes.restoration.samplers.levels import SIGMA_MAX, finest_level

Coefficients = Float[Tensor, "b n"]


def ddnm_levels(measurement: SpectralMeasurement, steps: int) -> Grid:
    """From pure noise down to a level that is short against the measurement's."""
    return log_sigma_grid(SIGMA_MAX, finest_level(measurement.levels), steps)


def sample_ddnm(
    measurement: SpectralMeasurement,
    denoiser: Denoiser,
    levels: Grid,
    noise: NoiseSource,
    eta: float = 0.85,
) -> Iterator[State]:
    """One DDNM+ answer for every picture of the measurement; see the module for the step.

    Args:
        measurement: what is known.
        denoiser: the prior.
        levels: noise levels, descending to 0, image units; one network call for each step.
        noise: one stream for every picture.
        eta: share of fresh noise, that of the authors' code.
    """
    operator, a = measurement.operator, measurement.levels
    x = 0.5 + float(levels[0]) * noise.normal(operator.in_shape, a.dtype)
    path = operator.Vt(x)
    for t, s in steps_of(levels):
        plain = operator.Vt(denoiser(x, x.new_full((len(x),), float(t))).mean)
        share, spread = _shares(a, s.to(a))
        estimate = plain + share * (measurement.values - plain)
        fresh = noise.normal((operator.n,), a.dtype)
        kept = (1 - eta**2) ** 0.5 * (path - plain) / t.to(a)
        path = estimate + spread * (eta * fresh + kept)
        x = operator.V(path)
        yield State(float(s), x, operator.V(estimate))


def _shares(a: Float[Tensor, "#b n"], s: Float[Tensor, ""]) -> tuple[Tensor, Tensor]:
    """``lambda`` and ``gamma`` of each coefficient."""
    brought = torch.where(torch.isinf(a), 0.0, torch.minimum(a, s))
    # At a = 0 (no noise) the measurement is taken as it is, even at s = 0.
    share = torch.where(a > s, s / a, 1.0)
    return share, (s**2 - brought**2).clamp(min=0).sqrt()
