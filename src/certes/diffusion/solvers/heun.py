r"""Heun's method on the probability-flow ODE (Karras et al. 2022, arXiv:2206.00364, algorithm 1).

In the canonical picture :math:`\tilde{x} = x / \alpha` and its noise level
:math:`\rho = \sigma / \alpha`, where the authors' time is the noise level, the ODE of any process
reads

.. math:: \frac{d\tilde{x}}{d\rho} = \frac{\tilde{x} - \hat{z}_0(\tilde{x}, \rho)}{\rho} .

Each step is Euler's (which is DDIM's), then once more with the mean of the slopes at its two ends.
Second order. Deterministic: the authors' optional churn is not part of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.process import Process, like
from certes.diffusion.solvers.state import State, steps_of

Picture = Float[Tensor, "b c h w"]


def heun(
    process: Process,
    denoiser: Denoiser,
    times: Float[Tensor, " steps_and_end"],
    x: Picture,
) -> Iterator[State]:
    """Walk ``x`` down the grid, two network calls for each step and one for a step to a clean end.

    Args:
        process: the schedule and its basis.
        denoiser: estimates the clean pictures.
        times: descending times; the last may be free of noise.
        x: pictures at ``times[0]``, process coordinates.
    """
    schedule = process.schedule
    for t, s in steps_of(times):
        estimate = process.denoise(denoiser, x, t).mean
        end, _ = process.transition(x, estimate, t, s, eta=0.0)
        if bool((schedule.sigma(s) > 0).any()):
            at_end = process.denoise(denoiser, end, s).mean
            step = (schedule.noise_level(s) - schedule.noise_level(t)) * schedule.alpha(s) / 2
            bend = _slope(process, end, at_end, s) - _slope(process, x, estimate, t)
            # A coordinate that is clean at the end has no slope there: it is the estimate.
            end = end + like(step.where(schedule.sigma(s) > 0, 0.0), x) * bend
        x = end
        yield State(float(s), x, estimate)


def _slope(process: Process, x: Picture, x0: Picture, t: Float[Tensor, ""]) -> Picture:
    r""":math:`d\tilde{x} / d\rho`, zero where there is no noise."""
    level = process.schedule.noise_level(t)
    inverse = (1 / level).where(level > 0, 0.0)
    return like(inverse, x) * (x / like(process.schedule.alpha(t), x) - process.encode(x0))
