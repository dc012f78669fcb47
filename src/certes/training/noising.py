"""From clean pictures to what the network sees and what it should answer."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from certes.networks.denoiser import NetworkDenoiser, conditioning
from certes.training.times import Drawn

Picture = Float[Tensor, "b c h w"]


@dataclass(frozen=True)
class NoisyBatch:
    """A batch of one step, in network units.

    Args:
        z0: clean pictures.
        x_t: what the network sees.
        target: what it should answer.
        conditioning: what it is told of the time.
        t: the time, float64.
        weight: of each picture's loss, float64.
    """

    z0: Picture
    x_t: Picture
    target: Picture
    conditioning: Float[Tensor, " b *levels"]
    t: Float[Tensor, " b"]
    weight: Float[Tensor, " b"]

    def of(self, which: slice | Bool[Tensor, " b"]) -> NoisyBatch:
        """Some of the pictures."""
        return replace(self, **{name: part[which] for name, part in vars(self).items()})


def noisy_batch(
    denoiser: NetworkDenoiser, x0: Picture, drawn: Drawn, generator: torch.Generator
) -> NoisyBatch:
    """Add noise to pictures in image units.

    Args:
        denoiser: knows the process and what its network shall predict.
        x0: the pictures.
        drawn: their times.
        generator: of the noise, on the device of ``x0``.
    """
    noise = torch.randn(x0.shape, generator=generator, device=generator.device).to(x0)
    schedule, t = denoiser.schedule, drawn.t
    alpha, sigma = (f(t).to(x0)[:, None, None, None] for f in (schedule.alpha, schedule.sigma))
    z0 = (x0 - denoiser.center) / denoiser.scale
    x_t = alpha * z0 + sigma * noise
    target = denoiser.parametrisation.target(x_t, z0, schedule, t)
    return NoisyBatch(z0, x_t, target, conditioning(schedule, t).to(x0), t, drawn.weight)
