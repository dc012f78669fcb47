r"""DDIM encoding: up the deterministic path, from a picture to the noise that would become it.

.. math:: x_s = \alpha_s \hat z_0(x_t) + \sigma_s\, \frac{x_t - \alpha_t \hat z_0(x_t)}{\sigma_t},
          \qquad s > t

A DDIM step does not mind its direction; the order of the steps decides: noise must grow, each step
starting where the last has arrived. (The released code of Infinity-Diff makes the steps of an
encoding in the order of sampling, from the noisiest time down.)

Papers: Song et al. 2021 (DDIM, arXiv:2010.02502), section 4.3; Bond-Taylor & Willcocks 2024
(arXiv:2303.18242).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.process import Process
from certes.diffusion.solvers.state import State
from certes.errors import InputError


def ddim_encode(
    process: Process,
    denoiser: Denoiser,
    times: Float[Tensor, " steps_and_start"],
    x: Float[Tensor, "b c h w"],
) -> Iterator[State]:
    """Walk ``x`` up the grid, one network call for each step; the last state is the code.

    Walking the same grid down with :func:`~certes.diffusion.solvers.ddim` gives the picture back,
    up to an error in proportion to the length of the steps.

    Args:
        process: the schedule and its basis; mollified or not.
        denoiser: estimates the clean pictures.
        times: ascending times; the first has a little noise, which the picture is taken to have.
        x: pictures at ``times[0]``, process coordinates:
            ``process.marginal(picture, times[0])[0]``.

    Raises:
        InputError: if there are fewer than two times, or they do not ascend, or the first is free
            of noise, where a picture tells of none.
    """
    if times.ndim != 1 or len(times) < 2 or not bool((times[1:] > times[:-1]).all()):
        raise InputError(
            f"times: shape {tuple(times.shape)}; give at least two, in strictly ascending order"
        )
    if not bool((process.schedule.sigma(times[0]) > 0).all()):
        raise InputError(
            f"times: the first, {float(times[0]):g}, has no noise; start at a little of it"
        )
    for t, s in pairwise(times.unbind()):
        estimate = process.denoise(denoiser, x, t).mean
        x, _ = process.transition(x, estimate, t, s, eta=0.0)
        yield State(float(s), x, estimate)
