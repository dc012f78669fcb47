r"""Ancestral sampling (Ho et al. 2020, arXiv:2006.11239) with its choices of reverse variance.

The reverse step :math:`p(x_s | x_t)` has the mean of :math:`q(x_s | x_t, z_0)` at the estimate; its
variance is a choice that matters when steps are few:

* ``small``: that of :math:`q(x_s | x_t, z_0)`, right if the estimate is sure (DDPM "fixedsmall");
* ``large``: that of :math:`q(x_t | x_s)`, right if pictures are white noise ("fixedlarge");
* ``optimal``: ``small`` plus what the denoiser does not know,
  :math:`\sigma_{s|t}^2 + b^2 Var[z_0 | x_t]` (Bao et al. 2022, arXiv:2201.06503, eq. 8, per pixel).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.bases import IdentityBasis
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.noise import NoiseSource
from certes.diffusion.process import Process, ddim_transition
from certes.diffusion.solvers.state import State, steps_of
from certes.errors import InputError, ModelError

Variance = Literal["small", "large", "optimal"]


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
        denoiser: estimates the clean pictures, with their variance if ``variance="optimal"``.
        times: descending times; the last may be free of noise.
        x: pictures at ``times[0]``, process coordinates.
        noise: one stream for each picture.
        variance: that of the reverse step, see above.

    Raises:
        InputError: if ``variance`` is unknown.
        ModelError: if ``variance="optimal"`` and the denoiser does not know its variance, or the
            process does not run in pixels.
    """
    if variance not in get_args(Variance):
        raise InputError(f"variance: {variance!r}; give one of {get_args(Variance)}")
    for t, s in steps_of(times):
        denoised = process.denoise(denoiser, x, t)
        x, _ = process.transition(x, denoised.mean, t, s)
        if process.schedule.sigma(s) > 0:
            std = _reverse_variance(process, denoised, t, s, variance).sqrt()
            x = x + std.to(x) * noise.normal(x.shape[1:], x.dtype)
        yield State(float(s), x, denoised.mean)


def _reverse_variance(
    process: Process,
    denoised: Denoised,
    t: Float[Tensor, ""],
    s: Float[Tensor, ""],
    variance: Variance,
) -> Float[Tensor, " ..."]:
    alpha_t, sigma_t = process.schedule.alpha(t), process.schedule.sigma(t)
    alpha_s, sigma_s = process.schedule.alpha(s), process.schedule.sigma(s)
    if variance == "large":
        return sigma_t**2 - (alpha_t / alpha_s * sigma_s) ** 2
    step = ddim_transition(alpha_t, sigma_t, alpha_s, sigma_s, eta=1.0)
    if variance == "small":
        return step.std**2
    return step.std**2 + step.b**2 * _pixel_variance(process, denoised)


def _pixel_variance(process: Process, denoised: Denoised) -> Float[Tensor, "b c h w"]:
    if denoised.variance is None or not isinstance(process.basis, IdentityBasis):
        raise ModelError(
            "variance: 'optimal' needs a denoiser that knows its variance and a process in pixels; "
            "give 'small' or 'large'"
        )
    return denoised.variance.to(torch.float64) / process.scale**2
