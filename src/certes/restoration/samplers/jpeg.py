r"""DDRM for JPEG (Kawar et al. 2022, arXiv:2209.11888): the published sampler.

With an encoder :math:`E` and a decoder :math:`D`, the denoiser's answer :math:`\hat x` is given the
measured picture in place of what encoding would leave of it,

.. math:: x' = \hat x - D(E(\hat x)) + D(E(y)),

and the step to level :math:`\sigma_s`, in the variance-exploding form, goes to

.. math:: \eta_b x' + (1 - \eta_b) \hat x
          + \sigma_s \left(\eta e + (1 - \eta) \frac{x_t - \hat x}{\sigma_t}\right).

It starts late, from the decoded picture with noise. Here :math:`D(E(y))` is ``y``, the decoded
picture that was measured. Like DDRM's its samples are near a point estimate; they are usually
averaged. Anything that is rounded will do in place of JPEG.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.grids import Grid
from certes.diffusion.noise import NoiseSource
from certes.diffusion.schedules import linear_betas
from certes.diffusion.solvers.state import State, steps_of
from certes.errors import InputError
from certes.restoration.measurement import Measurement

# Of the table's thousand steps: a decoded picture is near enough to begin this late.
_START = 300


def jpeg_levels(measurement: Measurement, steps: int) -> Grid:
    """Every ``300 // steps``-th entry of the linear DDPM table from below step 300, then 0.

    The number of network calls is therefore not always ``steps`` (7 gives 8).

    Args:
        measurement: whichever.
        steps: 1 to 300.

    Raises:
        InputError: for a number of steps outside that range.
    """
    if not 1 <= steps <= _START:
        raise InputError(f"steps: {steps}; sampler='jpeg' has 1 to {_START}")
    table = linear_betas()
    indices = torch.arange(0, _START, _START // steps).flip(0)
    # The table is meant for pictures in [-1, 1].
    levels = 0.5 * table.noise_level(table.time_of_index(indices))
    return torch.cat([levels, levels.new_zeros(1)])


def sample_jpeg(
    measurement: Measurement,
    denoiser: Denoiser,
    levels: Grid,
    noise: NoiseSource,
    eta: float = 1.0,
    eta_b: float = 0.4,
) -> Iterator[State]:
    """One answer for every row of the measurement; see the module for the step.

    Args:
        measurement: decoded pictures, by an operator that rounds.
        denoiser: the prior.
        levels: noise levels, descending to 0, image units; one network call for each step.
        noise: one stream for every row.
        eta: share of fresh noise; as published, between 0 and 1 the step keeps less noise than
            its level says (only 0 and 1 keep it all).
        eta_b: pull towards the measurement.
    """
    operator, y = measurement.operator, measurement.y
    x = y + float(levels[0]) * noise.normal(operator.in_shape, y.dtype)
    for t, s in steps_of(levels):
        estimate = denoiser(x, x.new_full((len(x),), float(t))).mean
        corrected = estimate - operator(estimate) + y
        direction = (x - estimate) / float(t)
        fresh = noise.normal(operator.in_shape, y.dtype)
        centre = eta_b * corrected + (1 - eta_b) * estimate
        x = centre + float(s) * (eta * fresh + (1 - eta) * direction)
        yield State(float(s), x, estimate)
