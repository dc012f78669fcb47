r"""The process: how pictures turn into noise, and the Gaussian steps that lead back.

.. math:: x_t = \alpha(t)\, z_0 + \sigma(t)\, e, \qquad z_0 = V^T (x_0 - c) / s

in an orthonormal basis :math:`V`, with a schedule :math:`(\alpha, \sigma)` and the units in which
the schedule is meant (:math:`c = s = 1/2` for networks that see [-1, 1]; 0 and 1 for image units).
Throughout, ``x0`` is a picture in image units and ``x_t`` is in process coordinates.

Papers: Song et al. 2021a (DDIM, arXiv:2010.02502) for the transitions, Song et al. 2021b
(arXiv:2011.13456) for the differential equations, Batzolis et al. 2021 (arXiv:2111.13606) for
several speeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.bases import Basis, IdentityBasis
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.noise import NoiseSource
from certes.diffusion.schedules import Schedule, Time

Picture = Float[Tensor, "b c h w"]
Coefficient = Float[Tensor, " ..."]


@dataclass(frozen=True)
class Transition:
    r""":math:`q(x_s | x_t, z_0) = N(a x_t + b z_0, \sigma_{s|t}^2)`: its three numbers.

    Args:
        a: weight of ``x_t``.
        b: weight of ``z_0``.
        std: standard deviation.
    """

    a: Coefficient
    b: Coefficient
    std: Coefficient


def ddim_transition(
    alpha_t: Coefficient,
    sigma_t: Coefficient,
    alpha_s: Coefficient,
    sigma_s: Coefficient,
    eta: float,
) -> Transition:
    r"""The step from :math:`t` to :math:`s < t` that keeps every marginal (DDIM, eq. 7 and 16).

    With the ratio of noise levels :math:`\rho = \sigma_s \alpha_t / (\alpha_s \sigma_t)`:

    .. math:: \sigma_{s|t} = \eta\, \sigma_s \sqrt{1 - \rho^2}, \quad
              a = \sqrt{\sigma_s^2 - \sigma_{s|t}^2} / \sigma_t, \quad b = \alpha_s - a\, \alpha_t .

    Where there is no noise before, ``x_t`` is the picture: :math:`a = \alpha_s / \alpha_t`.

    Args:
        alpha_t, sigma_t: signal and noise before, one for each picture or each coefficient
            (anything that broadcasts against ``x_t``).
        alpha_s, sigma_s: signal and noise after, at a noise level no higher than before.
        eta: 1 is the ancestral step, 0 deterministic.
    """
    noisy = sigma_t > 0
    divisor = sigma_t.where(noisy, 1.0)
    ratio = sigma_s * alpha_t / (alpha_s * divisor)
    fresh = eta**2 * (1 - ratio) * (1 + ratio)
    a = (sigma_s * (1 - fresh).sqrt() / divisor).where(noisy, alpha_s / alpha_t)
    return Transition(a, alpha_s - a * alpha_t, sigma_s * fresh.sqrt())


def score_transition(
    alpha_t: Coefficient,
    sigma_t: Coefficient,
    alpha_s: Coefficient,
    sigma_s: Coefficient,
    growth: Coefficient,
    variance: Coefficient,
) -> Transition:
    r"""A step of the reverse differential equation, :math:`c\, x_t + v \nabla\log p + \sqrt{v} e`.

    The score is that of the estimate (Tweedie): :math:`(\alpha_t z_0 - x_t) / \sigma_t^2`. Such a
    step makes sense while there is noise: coordinates that are clean at its end are the estimate
    there, those that are clean already stay what they are.

    Args:
        alpha_t, sigma_t: signal and noise before.
        alpha_s, sigma_s: signal and noise after.
        growth: :math:`c`.
        variance: :math:`v`, zero where there is no noise.
    """
    noisy, clean = sigma_t > 0, (sigma_t > 0) & (sigma_s == 0)
    share = variance / sigma_t.where(noisy, 1.0) ** 2
    return Transition(
        (growth - share).where(~clean, 0.0),
        (share * alpha_t).where(~clean, alpha_s),
        variance.sqrt().where(~clean, 0.0),
    )


def like(coefficient: Coefficient, x: Picture) -> Coefficient:
    """Coefficients in the precision of the pictures, broadcastable to them.

    Args:
        coefficient: one number, one for each picture, or (last three axes) one for each coordinate.
        x: pictures.
    """
    shape = coefficient.shape[-3:] if coefficient.ndim >= 3 else (1, 1, 1)
    return coefficient.to(x).reshape(-1, *shape)


@dataclass(frozen=True)
class Process:
    """A schedule in a basis, in the units that the schedule is meant for.

    Times are scalars or one for each picture of the batch, shape (b,). Coefficients, one for all
    coordinates or (:class:`~certes.diffusion.schedules.Multispeed`) one for each, are computed in
    float64 and applied in the precision of the pictures.

    Args:
        schedule: signal and noise over time.
        basis: where the process runs.
        center: the image value that process coordinates call 0.
        scale: the image distance that process coordinates call 1.
    """

    schedule: Schedule
    basis: Basis = field(default_factory=IdentityBasis)
    center: float = 0.0
    scale: float = 1.0

    def encode(self, x0: Picture) -> Picture:
        """Image units to process coordinates."""
        return self.basis.forward((x0 - self.center) / self.scale)

    def decode(self, z0: Picture) -> Picture:
        """Process coordinates to image units."""
        return self.basis.inverse(z0) * self.scale + self.center

    def marginal(self, x0: Picture, t: Time) -> tuple[Picture, Coefficient]:
        """Mean and standard deviation of ``q(x_t | x_0)``."""
        mean = like(self.schedule.alpha(t), x0) * self.encode(x0)
        return mean, like(self.schedule.sigma(t), x0)

    def transition(
        self, x_t: Picture, x0: Picture, t: Time, s: Time, eta: float = 1.0
    ) -> tuple[Picture, Coefficient]:
        """Mean and standard deviation of ``q(x_s | x_t, x_0)``, s < t: :func:`ddim_transition`."""
        alpha, sigma = self.schedule.alpha, self.schedule.sigma
        return self.step(ddim_transition(alpha(t), sigma(t), alpha(s), sigma(s), eta), x_t, x0)

    def step(self, step: Transition, x_t: Picture, x0: Picture) -> tuple[Picture, Coefficient]:
        """Mean and standard deviation of a transition from ``x_t``."""
        mean = like(step.a, x_t) * x_t + like(step.b, x_t) * self.encode(x0)
        return mean, like(step.std, x_t)

    def prior(
        self,
        shape: Sequence[int],
        noise: NoiseSource,
        t: Time = 1.0,
        dtype: torch.dtype = torch.float32,
    ) -> Picture:
        """Where sampling starts: ``q(x_t | x_0 = center)``, which at high noise is all of them.

        Args:
            shape: the shape (c, h, w) of one picture.
            noise: one stream for each picture.
            t: the first time of the grid.
            dtype: the precision of the result.
        """
        e = noise.normal(shape, dtype)
        return like(self.schedule.sigma(t), e) * e

    def sde(self, t: Time) -> tuple[Coefficient, Coefficient]:
        """``(f, g)`` of ``dx = f x dt + g dw``, float64."""
        return self.schedule.dlog_alpha(t), self.schedule.diffusion_squared(t).sqrt()

    def probability_flow(self, x_t: Picture, x0: Picture, t: Time) -> Picture:
        r"""The velocity :math:`f x_t - \frac12 g^2 \nabla\log p` of the ODE with these marginals.

        The score is that of the estimate ``x0`` of the picture (Tweedie):
        :math:`(\alpha z_0 - x_t) / \sigma^2`. A coordinate without noise has none, and only drifts.
        """
        schedule = self.schedule
        noise = schedule.sigma(t)
        pull = (schedule.diffusion_squared(t) / (2 * noise**2)).where(noise > 0, 0.0)
        x_weight = like(schedule.dlog_alpha(t) + pull, x_t)
        return x_weight * x_t - like(pull * schedule.alpha(t), x_t) * self.encode(x0)

    def denoise(self, denoiser: Denoiser, x_t: Picture, t: Time) -> Denoised:
        """Ask a denoiser, which knows image units and no schedule, about ``x_t``.

        It is told one noise level for each picture, or, by a process of several speeds, one for
        each coordinate: shape (b, c, h, w), with 1 where the schedule's index has 1.
        """
        x = self.decode(x_t / like(self.schedule.alpha(t), x_t))
        sigma = (self.scale * self.schedule.noise_level(t)).to(x)
        if sigma.ndim >= 3:
            return denoiser(x, like(sigma, x).expand(len(x), *sigma.shape[-3:]))
        return denoiser(x, sigma.expand(x.shape[0]))
