r"""DDRM (Kawar et al. 2022, arXiv:2201.11793, eq. 7-8): the published sampler.

In the variance-exploding form and the operator's singular basis, with :math:`\bar y_i` the measured
coefficient and :math:`a_i = \sigma_y / s_i` its noise, the step to level :math:`\sigma_s` draws

.. math::
    \bar x_i \sim \begin{cases}
    N(\hat x_i + \sqrt{1-\eta^2}\, \sigma_s\, \hat e_i,\; \eta^2 \sigma_s^2) & s_i = 0 \\
    N(\hat x_i + \sqrt{1-\eta^2}\, \sigma_s (\bar y_i - \hat x_i) / a_i,\; \eta^2 \sigma_s^2)
        & \sigma_s < a_i \\
    N((1-\eta_b) \hat x_i + \eta_b \bar y_i,\; \sigma_s^2 - \eta_b^2 a_i^2) & \sigma_s \ge a_i
    \end{cases}

Its samples are close to a point estimate and its spread is no posterior's: measured coverage of the
nominal 90 % interval on scalar Gaussians is .34 to .95. It is here as the baseline it has become.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.noise import NoiseSource
from certes.diffusion.schedules import linear_betas
from certes.diffusion.solvers.state import State, steps_of
from certes.errors import InputError
from certes.restoration.measurement import SpectralMeasurement

Coefficients = Float[Tensor, "b n"]


def official_levels(steps: int, scale: float = 0.5) -> Float[Tensor, " steps_and_end"]:
    """The official code's grid: every ``1000 // steps``-th entry of the linear DDPM table, then 0.

    The number of network calls is therefore not always ``steps`` (7 gives 8, 300 gives 334).

    Args:
        steps: 1 to 1000.
        scale: image units for one unit of the table, which is meant for [-1, 1].

    Raises:
        InputError: for a number of steps outside that range.
    """
    if not 1 <= steps <= 1000:
        raise InputError(f"steps: {steps}; the official grid has 1 to 1000")
    table = linear_betas(1000)
    indices = torch.arange(0, 1000, 1000 // steps).flip(0)
    levels = scale * table.noise_level(table.time_of_index(indices))
    return torch.cat([levels, levels.new_zeros(1)])


def sample_ddrm(
    measurement: SpectralMeasurement,
    denoiser: Denoiser,
    levels: Float[Tensor, " steps_and_end"],
    noise: NoiseSource,
    eta: float = 0.85,
    eta_b: float = 1.0,
) -> Iterator[State]:
    """One DDRM answer for every picture of the measurement; see the module for the step.

    Args:
        measurement: what is known.
        denoiser: the prior.
        levels: noise levels, descending to 0, image units; one network call for each step.
        noise: one stream for every picture.
        eta: share of fresh noise where nothing better than the path is known.
        eta_b: pull towards the measurement where that is the less noisy.
    """
    operator = measurement.operator
    path = _start(measurement, levels[0], noise)
    for t, s in steps_of(levels):
        x, level = operator.V(path), path.new_full((len(path),), float(t))
        estimate = denoiser(x, level).mean
        target = operator.Vt(estimate)
        fresh = noise.normal((operator.n,), path.dtype)
        path = _step(
            measurement, target, (path - target) / t.to(path), s.to(path), fresh, eta, eta_b
        )
        yield State(float(s), operator.V(path), estimate)


def _start(measurement: SpectralMeasurement, sigma: Tensor, noise: NoiseSource) -> Coefficients:
    a, operator, sigma = measurement.levels, measurement.operator, sigma.to(measurement.levels)
    fresh = noise.normal((operator.n,), a.dtype)
    grey = torch.full((1, *operator.in_shape), 0.5, dtype=a.dtype, device=a.device)
    pinned = measurement.values + (sigma**2 - a**2).clamp(min=0).sqrt() * fresh
    return torch.where(a <= sigma, pinned, operator.Vt(grey) + sigma * fresh)


def _step(
    measurement: SpectralMeasurement,
    x0: Coefficients,
    direction: Coefficients,
    s: Tensor,
    fresh: Coefficients,
    eta: float,
    eta_b: float,
) -> Coefficients:
    y, a = measurement.values, measurement.levels
    kept = (1 - eta**2) ** 0.5 * s
    unseen = x0 + kept * direction + eta * s * fresh
    # At a = 0 (no noise) this branch is never chosen; the clamp keeps it finite.
    noisier = x0 + kept * (y - x0) / a.clamp(min=1e-30) + eta * s * fresh
    cleaner = (1 - eta_b) * x0 + eta_b * y
    cleaner = cleaner + (s**2 - (eta_b * a) ** 2).clamp(min=0).sqrt() * fresh
    path = torch.where(a > s, noisier, torch.where(a < s, cleaner, unseen))
    return torch.where(torch.isinf(a), unseen, path)
