r"""DDIM (Song et al. 2021, arXiv:2010.02502): exact steps for a picture that is the estimate.

First order as an ODE solver (``eta=0``).
"""

from __future__ import annotations

from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.noise import NoiseSource
from certes.diffusion.process import Process
from certes.diffusion.solvers.state import State, steps_of


def ddim(
    process: Process,
    denoiser: Denoiser,
    times: Float[Tensor, " steps_and_end"],
    x: Float[Tensor, "b c h w"],
    noise: NoiseSource,
    eta: float = 0.0,
) -> Iterator[State]:
    """Walk ``x`` down the grid, one network call for each step.

    Args:
        process: the schedule and its basis.
        denoiser: estimates the clean pictures.
        times: descending times; the last may be free of noise.
        x: pictures at ``times[0]``, process coordinates.
        noise: one stream for each picture (left alone at ``eta=0``).
        eta: 0 follows the probability-flow ODE, 1 is ancestral sampling.
    """
    for t, s in steps_of(times):
        estimate = process.denoise(denoiser, x, t).mean
        x, std = process.transition(x, estimate, t, s, eta)
        if eta > 0:
            x = x + std * noise.normal(x.shape[1:], x.dtype)
        yield State(float(s), x, estimate)
