r"""The variance of the reverse step :math:`p(x_s | x_t)`, whose mean is that of :math:`q` at the
estimate.

The forward posterior :math:`q(x_s | x_t, z_0)` has the variance :math:`\tilde\beta`; how much more
the reverse step needs, because its estimate is not sure, is a choice that matters when steps are
few and for the likelihood:

* ``small``: :math:`\tilde\beta` itself, right if the estimate is sure (DDPM "fixedsmall");
* ``large``: that of :math:`q(x_t | x_s)`, right if pictures are white noise ("fixedlarge");
* ``learned``: :math:`\tilde\beta + b^2 Var[z_0 | x_t]` with the variance that the denoiser says of
  every pixel (Bao et al. 2022, arXiv:2201.06503, eq. 8; a learned range is read as such, too);
* ``calibrated``: the same with the diagonal of the denoiser's *measured* error covariance, one
  number a noise level where it predicts no variance (Analytic-DPM, Bao et al. 2022,
  arXiv:2201.06503, eq. 7, in closed form from residuals; no retraining).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.bases import IdentityBasis
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.process import Process, ddim_transition
from certes.errors import InputError, ModelError

Variance = Literal["small", "large", "learned", "calibrated"]


def check_variance(variance: str) -> None:
    """Refuse an unknown name.

    Raises:
        InputError: if it is unknown.
    """
    if variance not in get_args(Variance):
        raise InputError(f"variance: {variance!r}; give one of {', '.join(get_args(Variance))}")


def reverse_variance(
    process: Process,
    denoiser: Denoiser,
    denoised: Denoised,
    t: Float[Tensor, ""],
    s: Float[Tensor, ""],
    variance: Variance,
) -> Float[Tensor, " ..."]:
    """The variance of ``p(x_s | x_t)`` in process coordinates, float64, broadcastable to ``x_t``.

    Args:
        process: the schedule and its basis.
        denoiser: what answered ``denoised``.
        denoised: its answer at ``t``.
        t, s: from where to where, ``s < t``.
        variance: which of the four.

    Raises:
        ModelError: if ``learned`` or ``calibrated`` is asked of a denoiser that knows no such
            thing, or of a process that does not run in pixels.
    """
    alpha_t, sigma_t = process.schedule.alpha(t), process.schedule.sigma(t)
    alpha_s, sigma_s = process.schedule.alpha(s), process.schedule.sigma(s)
    if variance == "large":
        return sigma_t**2 - (alpha_t / alpha_s * sigma_s) ** 2
    step = ddim_transition(alpha_t, sigma_t, alpha_s, sigma_s, eta=1.0)
    if variance == "small":
        return step.std**2
    return step.std**2 + step.b**2 * pixel_variance(process, denoiser, denoised, t, variance)


def pixel_variance(
    process: Process,
    denoiser: Denoiser,
    denoised: Denoised,
    t: Float[Tensor, ""],
    variance: Variance,
) -> Float[Tensor, "b c h w"]:
    r""":math:`Var[z_0 | x_t]` of every pixel in process coordinates, float64: ``learned`` as the
    denoiser says it, ``calibrated`` as it was measured.
    """
    if not isinstance(process.basis, IdentityBasis):
        raise ModelError(
            f"variance: {variance!r} needs a process that runs in pixels; give 'small' or 'large'"
        )
    said = denoised.variance
    if variance == "calibrated":
        sigma = process.scale * process.schedule.noise_level(t)
        covariance = denoiser.covariance(
            denoised, sigma.to(denoised.mean).expand(len(denoised.mean))
        )
        said = covariance.diagonal().expand_as(denoised.mean)
    if said is None:
        raise ModelError(
            "variance: 'learned' needs a denoiser that predicts its variance; "
            "give 'calibrated', 'small' or 'large'"
        )
    return said.to(torch.float64) / process.scale**2
