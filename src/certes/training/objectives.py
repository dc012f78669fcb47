r"""What is minimised: the simple objective, and the likelihood of the network's own error.

.. math:: L_{simple} = E_{x_0, e, t} \| F(x_t, t) - F^*(x_t, x_0) \|^2

(Ho et al. 2020, eq. 14, for any target :math:`F^*`). A network with a variance output also learns
the size of its error, by the Gaussian likelihood with the mean held fixed (so the variance cannot
buy likelihood by spoiling the mean), and its pictures are weighted by :math:`w(x_t) \propto
\bar v(x_t)^{-1/2}`, the predicted error of the whole picture. A weight that depends on :math:`x_t`
alone leaves the minimiser :math:`E[x_0 | x_t]` where it is; without it dark pictures, whose errors
are small, are hardly learned.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from certes.networks.denoiser import NetworkDenoiser, bounded_exp, conditioning

# The likelihood's gradient is as noisy as a chi-square; in full it slows the mean's learning.
LIKELIHOOD_WEIGHT = 0.1


@dataclass(frozen=True)
class Losses:
    """One batch.

    Args:
        total: what is differentiated.
        simple: the simple objective alone, unweighted.
        variance: negative log-likelihood of the errors (nats a value), 0 without a variance output.
    """

    total: Float[Tensor, ""]
    simple: Float[Tensor, ""]
    variance: Float[Tensor, ""]


def stratified_times(generator: torch.Generator, count: int) -> Float[Tensor, " b"]:
    """Times in [0, 1), one in each of ``count`` equal strata, in random order (lower variance)."""
    place = generator.device
    offsets = torch.rand(count, generator=generator, dtype=torch.float64, device=place)
    return (torch.randperm(count, generator=generator, device=place) + offsets) / count


def noisy_batch(
    denoiser: NetworkDenoiser, x0: Float[Tensor, "b c h w"], generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """``(x_t, target, conditioning)`` of pictures in image units.

    Args:
        denoiser: knows the process and what its network shall predict.
        x0: the pictures.
        generator: of times and noise, on the device of ``x0``.
    """
    t = stratified_times(generator, len(x0))
    noise = torch.randn(x0.shape, generator=generator, device=generator.device).to(x0)
    alpha, sigma = (
        f(t).to(x0)[:, None, None, None] for f in (denoiser.schedule.alpha, denoiser.schedule.sigma)
    )
    z0 = (x0 - denoiser.center) / denoiser.scale
    x_t = alpha * z0 + sigma * noise
    target = denoiser.parametrisation.target(x_t, z0, denoiser.schedule, t)
    return x_t, target, conditioning(denoiser.schedule, t).to(x0)


def losses(output: Float[Tensor, "b c_out h w"], target: Float[Tensor, "b c h w"]) -> Losses:
    """The objectives of one batch; after ``c`` channels ``output`` may hold log-variances."""
    output, channels = output.float(), target.shape[1]
    prediction, log_variance = output[:, :channels], output[:, channels:]
    squared = (prediction - target) ** 2
    if log_variance.shape[1] == 0:
        return Losses(squared.mean(), squared.mean().detach(), squared.new_zeros(()))
    variance = bounded_exp(log_variance)
    likelihood = (squared.detach() / variance + variance.log()).mean() / 2
    weight = variance.detach().mean(dim=(1, 2, 3)).rsqrt()
    weighted = (weight / weight.mean() * squared.mean(dim=(1, 2, 3))).mean()
    total = weighted + LIKELIHOOD_WEIGHT * likelihood
    return Losses(total, squared.mean().detach(), likelihood.detach())
