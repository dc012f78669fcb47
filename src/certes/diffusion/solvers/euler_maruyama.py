r"""Euler-Maruyama on the reverse differential equation (Song et al. 2021, arXiv:2011.13456, eq. 6).

.. math:: dx = (f x - g^2 \nabla\log p_t)\, dt + g\, d\bar{w}

With coefficients held at the start of a step of length :math:`\Delta = t - s`:

.. math:: x_s = (1 - f \Delta)\, x_t + g^2 \Delta \nabla\log p_t + g \sqrt{\Delta}\, e .

First order. In the times of an exploding schedule a step that divides the noise by much overshoots,
so that this solver needs many; the others are better with few.
"""

from __future__ import annotations

from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.noise import NoiseSource
from certes.diffusion.process import Process, score_transition
from certes.diffusion.solvers.state import State
from certes.diffusion.solvers.stepping import walk

Picture = Float[Tensor, "b c h w"]


def euler_maruyama_step(
    process: Process, x: Picture, x0: Picture, t: Float[Tensor, ""], s: Float[Tensor, ""]
) -> tuple[Picture, Float[Tensor, " ..."]]:
    """Mean and standard deviation of the step from ``t`` to ``s`` that believes in ``x0``.

    At an end without noise they are the estimate and zero.
    """
    schedule, length = process.schedule, t - s
    step = score_transition(
        schedule.alpha(t),
        schedule.sigma(t),
        schedule.alpha(s),
        schedule.sigma(s),
        growth=1 - schedule.dlog_alpha(t) * length,
        variance=schedule.diffusion_squared(t) * length,
    )
    return process.step(step, x, x0)


def euler_maruyama(
    process: Process,
    denoiser: Denoiser,
    times: Float[Tensor, " steps_and_end"],
    x: Picture,
    noise: NoiseSource,
) -> Iterator[State]:
    """Walk ``x`` down the grid; see :func:`~certes.diffusion.solvers.stepping.walk`."""
    return walk(euler_maruyama_step, process, denoiser, times, x, noise)
