r"""DPS (Chung et al. 2023, arXiv:2209.14687, algorithm 1): guidance through the denoiser.

Any differentiable :math:`H`, linear or not. Every ancestral step is followed by one down the
gradient of the misfit of the denoiser's answer :math:`\hat x(x_t)`. On the authors' chain, the
linear table of 1000 steps in units of [-1, 1], that second step is

.. math:: -\zeta\, \nabla_{x_t} \|y - H(\hat x(x_t))\|, \qquad \zeta = 0.3.

(The paper writes :math:`\zeta' / \|\cdot\|` times the gradient of the square, which is twice that.)
In the variance-exploding form and in units of [0, 1], where the table's level is :math:`2 \sigma`
and the picture :math:`\sqrt{1 + 4 \sigma^2}` times as large, it reads

.. math:: -\frac{\zeta}{2}\, \nu_{ts} \sqrt{(1 + 4 \sigma_t^2) (1 + 4 \sigma_s^2)}\;
          \nabla_{x_t} \|y - H(\hat x(x_t))\|,

:math:`\nu_{ts}` being the number of the table's steps between the two levels (1 on the table
itself): on a coarser grid the guidance of all steps that are left out is due at once, so that the
number of steps changes the accuracy and not the method. It goes no farther than to where the misfit
would vanish if it were linear, :math:`\|\cdot\| / \|\nabla \|\cdot\|\|^2` (Polyak's step): at noise
and picture sizes like the authors' one step of the table is far from that, but many at once, or the
misfit of a few pixels, would overshoot.

The norm is that of one picture; in the authors' code it is that of the batch, so that pictures
change each other. No posterior sampler: the guidance does not know how sure the denoiser is.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.grids import Grid
from certes.diffusion.noise import NoiseSource
from certes.diffusion.process import Process
from certes.diffusion.schedules import EDM, linear_betas
from certes.diffusion.solvers.state import State, steps_of
from certes.errors import InputError
from certes.restoration.measurement import Measurement

ZETA = 0.3
_TABLE = linear_betas()


def sample_dps(
    measurement: Measurement,
    denoiser: Denoiser,
    levels: Grid,
    noise: NoiseSource,
    zeta: float = ZETA,
) -> Iterator[State]:
    """One DPS answer for every row of the measurement; see the module for the step.

    Args:
        measurement: what is known, by a differentiable operator.
        denoiser: the prior, differentiable too.
        levels: noise levels, descending to 0, image units; one network call, there and back, for
            each step.
        noise: one stream for every row.
        zeta: how far one step of the authors' chain goes, that of their code.

    Raises:
        InputError: if the measurement of an estimate cannot be differentiated.
    """
    operator, y, process = measurement.operator, measurement.y, Process(EDM())
    x = 0.5 + float(levels[0]) * noise.normal(operator.in_shape, y.dtype)
    for t, s in steps_of(levels):
        estimate, misfit, gradient = _looked_back(measurement, denoiser, x, float(t))
        farthest = misfit / gradient.square().sum((1, 2, 3)).clamp(min=torch.finfo(x.dtype).tiny)
        length = farthest.clamp(max=zeta * guidance(t, s))[:, None, None, None]
        mean, std = process.transition(x, estimate, t, s)
        x = mean + std * noise.normal(operator.in_shape, y.dtype) - length * gradient
        yield State(float(s), x, estimate)


def guidance(t: Float[Tensor, ""], s: Float[Tensor, ""]) -> float:
    """What multiplies ``-zeta`` times the gradient on the way from level ``t`` to ``s``."""
    steps = _TABLE.steps * (_time(t) - _time(s))
    return float(steps * ((1 + 4 * t**2) * (1 + 4 * s**2)).sqrt() / 2)


def _time(level: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Where the table has this level of image units; at its clean end for none."""
    return _TABLE.time(-2 * (2 * level.double()).log()) if level > 0 else level.double()


def _looked_back(
    measurement: Measurement, denoiser: Denoiser, x: Float[Tensor, "b c h w"], sigma: float
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, " b"], Float[Tensor, "b c h w"]]:
    """The denoiser's answer, its misfit, and the misfit's gradient; no graph is kept."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        estimate = denoiser(x, x.new_full((len(x),), sigma)).mean
        square = (measurement.y - measurement.operator(estimate)).flatten(1).square().sum(1)
        slope = _slope(square, x)
    misfit = square.detach().sqrt()
    # Of the norm; where that is zero, so is the square's slope, and there is no way to go.
    below = 2 * misfit.clamp(min=torch.finfo(x.dtype).tiny)[:, None, None, None]
    return estimate.detach(), misfit, slope / below


def _slope(square: Float[Tensor, " b"], x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """The gradient of each picture's squared misfit."""
    if square.requires_grad:
        (slope,) = torch.autograd.grad(square.sum(), x)
        if bool(slope.any()) or not bool(square.any()):
            return slope
    raise InputError(
        "operator: no gradient reaches the picture through it and the denoiser; write it in "
        "torch's own differentiable operations (no rounding), and leave covariance='model'"
    )
