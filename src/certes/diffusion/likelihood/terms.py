r"""One term of the bound: what a single step of the grid costs.

* The prior is :math:`N(0, (\alpha_T^2 + \sigma_T^2) I)`: the paper's :math:`N(0, I)` wherever the
  process preserves variance, and as wide as the noise where it explodes.
* Both sides of a step have means of the same form, which differ by :math:`b (z_0 - \hat z_0)`.
* The last step goes to the picture itself, whatever the last time. Its variance is that of
  :math:`x_0` for ``learned`` and ``calibrated``. For ``small`` that would be zero: DDPM's code puts
  the entry of the step before in its place, and for ``large`` too, "to get a better decoder log
  likelihood".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.grids import Grid
from certes.diffusion.likelihood.decoder import Decoder, log_probability
from certes.diffusion.noise import NoiseSource
from certes.diffusion.process import Process, ddim_transition
from certes.diffusion.reverse import Variance, pixel_variance, reverse_variance

Picture = Float[Tensor, "b c h w"]
Scalars = Float[Tensor, " b"]


@dataclass(frozen=True)
class Terms:
    """The steps of a grid; fields as the arguments of ``variational_bound``."""

    process: Process
    denoiser: Denoiser
    times: Grid
    variances: Sequence[Variance]
    decoder: Decoder

    def prior(self, x0: Picture) -> Scalars:
        """``L_T`` of each picture, bits per dimension, float64."""
        schedule, t = self.process.schedule, self.times[0]
        signal, noise = schedule.alpha(t) ** 2, schedule.sigma(t) ** 2
        total = signal + noise
        square = self.process.encode(x0.double()).square()
        return _bits(_divergence(noise, total, signal * square))

    def at(
        self, step: int, x0: Picture, noise: NoiseSource
    ) -> tuple[Float[Tensor, "variances b"], Scalars]:
        """What step number ``step`` costs, bits per dimension, and the mean square error of its
        estimate of ``x0``, image units squared: one draw for each picture, float64.
        """
        t = self.times[step]
        mean, std = self.process.marginal(x0, t)
        x_t = mean + std * noise.normal(x0.shape[1:], x0.dtype)
        denoised = self.process.denoise(self.denoiser, x_t, t)
        if self.denoiser.confined:
            denoised = replace(denoised, mean=denoised.mean.clamp(0, 1))
        cost = self._decoding if step == len(self.times) - 2 else self._divergence
        costs = [_bits(cost(step, x0, denoised, variance)) for variance in self.variances]
        error = (x0.double() - denoised.mean).square().flatten(1).mean(1)
        return torch.stack(costs), error

    def _divergence(
        self, step: int, x0: Picture, denoised: Denoised, variance: Variance
    ) -> Picture:
        """``KL(q(x_s | x_t, x_0) || p(x_s | x_t))`` of every pixel, nats."""
        schedule, t, s = self.process.schedule, self.times[step], self.times[step + 1]
        alpha, sigma = schedule.alpha, schedule.sigma
        q = ddim_transition(alpha(t), sigma(t), alpha(s), sigma(s), eta=1.0)
        reverse = reverse_variance(self.process, self.denoiser, denoised, t, s, variance)
        error = self.process.encode(x0.double()) - self.process.encode(denoised.mean.double())
        return _divergence(q.std**2, reverse, (q.b * error).square())

    def _decoding(self, step: int, x0: Picture, denoised: Denoised, variance: Variance) -> Picture:
        """``-log p(x_0 | x_1)`` of every pixel, nats."""
        known, t = (self.process, self.denoiser, denoised), self.times[step]
        if variance in ("learned", "calibrated"):
            spread = pixel_variance(*known, t, variance)
        else:
            spread = reverse_variance(*known, self.times[step - 1], t, "small")
        return -log_probability(x0, denoised.mean, self.process.scale * spread.sqrt(), self.decoder)


def _divergence(q: Tensor, p: Tensor, squared_distance: Tensor) -> Tensor:
    """KL of normal distributions of variances ``q`` and ``p``, nats, for every pixel."""
    ratio = q / p
    return (ratio - 1 - ratio.log() + squared_distance / p) / 2


def _bits(nats: Picture) -> Scalars:
    return nats.flatten(1).mean(1) / math.log(2)
