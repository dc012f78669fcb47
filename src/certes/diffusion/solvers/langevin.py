r"""Langevin steps at one noise level: a corrector (Song et al. 2021, arXiv:2011.13456, alg. 4-5).

.. math:: x \leftarrow x + \epsilon \nabla\log p_t(x) + \sqrt{2 \epsilon}\, e, \qquad
          \epsilon = 2\, (r \sigma_t)^2 .

The authors set :math:`\epsilon = 2 (r \|e\| / \|\nabla\log p\|)^2` with both norms averaged over
the batch, so that pictures change each other. :func:`by_norms` takes those of each picture alone,
which do not; but a step that depends on where it starts leaves another law unchanged, one
proportional to :math:`p\, \|\nabla\log p\|^2`, which is far from :math:`p` where few directions
dominate the score. :func:`by_level`, the rule, depends on nothing but the noise level. It is theirs
for the score that networks are trained on, :math:`-e / \sigma_t`, for which the norms' ratio is
:math:`\sigma_t` (and that of Song and Ermon 2019, arXiv:1907.05600), and hardly shorter while noise
dominates.

For variance-preserving processes they also multiply :math:`\epsilon` by :math:`1 - \beta_i` of
their table, which sub-VP has not; it tends to 1 as steps get short. Here the schedule's own
:math:`\sigma_t` is all that is needed.
"""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.noise import NoiseSource
from certes.diffusion.process import Process, like

Picture = Float[Tensor, "b c h w"]

SNR = 0.16


Scale = Callable[[Picture, Picture, Float[Tensor, " ..."]], Float[Tensor, " ..."]]
"""What ``snr`` is multiplied by: of the score times the noise level, fresh noise and that level."""


def by_level(pull: Picture, e: Picture, sigma: Float[Tensor, " ..."]) -> Float[Tensor, " ..."]:
    r""":math:`\sigma_t`."""
    return sigma


def by_norms(pull: Picture, e: Picture, sigma: Float[Tensor, " ..."]) -> Float[Tensor, "b 1 1 1"]:
    r""":math:`\|e\| / \|\nabla\log p\|` of each picture."""
    noise, score = (v.square().sum(dim=(1, 2, 3), keepdim=True).sqrt() for v in (e, pull))
    return sigma * noise / score


def correct(
    process: Process,
    denoiser: Denoiser,
    x: Picture,
    t: Float[Tensor, ""],
    noise: NoiseSource,
    snr: float = SNR,
    steps: int = 1,
    scale: Scale = by_level,
) -> Picture:
    """Pictures nearer to the law at time ``t``, one network call for each step.

    The spread of what the steps leave unchanged is too large by up to ``snr**2`` (half that in
    standard deviation), whatever their number. Coordinates without noise stay as they are.

    Args:
        process: the schedule and its basis.
        denoiser: estimates the clean pictures.
        x: pictures at ``t``, process coordinates.
        t: the time.
        noise: one stream for each picture.
        snr: the ratio r of the step's pull to its noise.
        steps: how many.
        scale: :func:`by_level` or :func:`by_norms`.
    """
    alpha, sigma = process.schedule.alpha(t), process.schedule.sigma(t)
    sigma_t, alpha_t = like(sigma, x), like(alpha, x)
    safe = sigma_t.where(sigma_t > 0, 1.0)
    for _ in range(steps):
        clean = alpha_t * process.encode(process.denoise(denoiser, x, t).mean)
        pull = (clean - x) / safe * (sigma_t > 0)  # the score times the noise
        e = noise.normal(x.shape[1:], x.dtype)
        epsilon = 2 * (snr * scale(pull, e, sigma_t)) ** 2
        x = x + epsilon / safe * pull + (2 * epsilon).sqrt() * e
    return x
