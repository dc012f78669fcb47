r"""Ancestral sampling (Ho et al. 2020, arXiv:2006.11239) with its choices of reverse variance.

:mod:`certes.diffusion.reverse` tells the choices.
"""

from __future__ import annotations

from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.noise import NoiseSource
from certes.diffusion.process import Process
from certes.diffusion.reverse import Variance, check_variance, reverse_variance
from certes.diffusion.solvers.state import State, steps_of


def ancestral(
    process: Process,
    denoiser: Denoiser,
    times: Float[Tensor, " steps_and_end"],
    x: Float[Tensor, "b c h w"],
    noise: NoiseSource,
    variance: Variance = "small",
) -> Iterator[State]:
    """Walk ``x`` down the grid, one network call for each step; no noise is added at the clean end.

    Args:
        process: the schedule and its basis.
        denoiser: estimates the clean pictures, with their variance if ``variance="learned"``.
        times: descending times; the last may be free of noise.
        x: pictures at ``times[0]``, process coordinates.
        noise: one stream for each picture.
        variance: that of the reverse step, see above.

    Raises:
        InputError: if ``variance`` is unknown.
        ModelError: if the denoiser does not know its variance, or the process does not run in
            pixels, and ``variance`` asks for that.
    """
    check_variance(variance)
    for t, s in steps_of(times):
        denoised = process.denoise(denoiser, x, t)
        x, _ = process.transition(x, denoised.mean, t, s)
        if bool((process.schedule.sigma(s) > 0).any()):
            std = reverse_variance(process, denoiser, denoised, t, s, variance).sqrt()
            x = x + std.to(x) * noise.normal(x.shape[1:], x.dtype)
        yield State(float(s), x, denoised.mean)
