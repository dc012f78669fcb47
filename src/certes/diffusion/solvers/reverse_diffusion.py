r"""Reverse diffusion: the forward step, backwards (Song et al. 2021, arXiv:2011.13456, appendix E).

The forward step from :math:`s` to :math:`t` is exact,
:math:`x_t = k\, x_s + G e` with :math:`k = \alpha_t / \alpha_s` and
:math:`G^2 = \sigma_t^2 - k^2 \sigma_s^2`; the step back is

.. math:: x_s = (2 - k)\, x_t + G^2 \nabla\log p_t + G e .

For exploding schedules :math:`k = 1, G^2 = \sigma_t^2 - \sigma_s^2`, for variance-preserving ones
:math:`k = \sqrt{1 - \beta}, G^2 = \beta`: the two cases of the paper, between the times of the grid
rather than of a table. First order.
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


def reverse_diffusion_step(
    process: Process, x: Picture, x0: Picture, t: Float[Tensor, ""], s: Float[Tensor, ""]
) -> tuple[Picture, Float[Tensor, " ..."]]:
    """Mean and standard deviation of the step from ``t`` to ``s`` that believes in ``x0``.

    At an end without noise they are the estimate and zero.
    """
    alpha_t, sigma_t = process.schedule.alpha(t), process.schedule.sigma(t)
    alpha_s, sigma_s = process.schedule.alpha(s), process.schedule.sigma(s)
    kept = alpha_t / alpha_s
    added = sigma_t**2 - (kept * sigma_s) ** 2
    step = score_transition(alpha_t, sigma_t, alpha_s, sigma_s, growth=2 - kept, variance=added)
    return process.step(step, x, x0)


def reverse_diffusion(
    process: Process,
    denoiser: Denoiser,
    times: Float[Tensor, " steps_and_end"],
    x: Picture,
    noise: NoiseSource,
) -> Iterator[State]:
    """Walk ``x`` down the grid; see :func:`~certes.diffusion.solvers.stepping.walk`."""
    return walk(reverse_diffusion_step, process, denoiser, times, x, noise)
