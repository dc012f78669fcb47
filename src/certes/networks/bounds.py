r"""Bounds in one pass: a conditional network whose last layer answers three times (Conffusion).

Horwitz and Hoshen 2022 (arXiv:2211.09795) turn a diffusion model into bounds by repeating its last
layer and fine-tuning it with the quantile loss. They show the network the condition in place of
:math:`x_t` and call it little noisy, so that what is read as :math:`x_0` is far from it at first.
Here :math:`x_t` is at the largest noise that the network knows, where it carries nothing (its
expected value, zero, is shown), and conditions are clean and called so. The answer, read as
always, is a CDE's own :math:`E[x_0 | y]` from the start. Networks of noisy conditions have never
seen a clean one beside an x_t like this, and start further off; after a few hundred steps they are
no worse for it than with y called as noisy as it was in training.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from certes.networks.conditional import Block, ConditionalNetworkDenoiser
from certes.networks.denoiser import evaluate
from certes.networks.unet import UNet

Picture = Float[Tensor, "b c h w"]

KIND = "bounds"
"""Of their model folders."""
HEADS = 3
"""Lower end, estimate, upper end."""


class BoundsNetwork:
    """A U-Net on conditions, read as lower ends, estimates and upper ends, image units.

    Args:
        net: sees x's channels, which say nothing, and y's; answers x's three times.
        x: the picture's block.
        y: the condition's block.
        sigma_x: the noise level of x that the network is told, image units.
    """

    def __init__(self, net: UNet, x: Block, y: Block, sigma_x: float) -> None:
        self.net, self.x, self.y, self.sigma_x = net, x, y, sigma_x

    @property
    def device(self) -> torch.device:
        """Where the network lives; conditions must be there too."""
        return next(self.net.parameters()).device

    def inputs(self, y: Picture) -> tuple[Picture, Float[Tensor, "b 2"]]:
        """What the network sees and is told of clean conditions."""
        nothing = y.new_zeros(len(y), self.x.channels, *y.shape[2:])
        levels = y.new_full((len(y),), self.sigma_x), y.new_zeros(len(y))
        told = [block.told(level) for block, level in zip((self.x, self.y), levels, strict=True)]
        return torch.cat([nothing, self.y.seen(y, levels[1])], dim=1), torch.stack(told, dim=1)

    def read(self, answer: Float[Tensor, "b c_out h w"]) -> Float[Tensor, "b 3 c h w"]:
        """Lower ends, estimates and upper ends in the network's answer, as they fell."""
        size = answer.shape[2:]
        flat = answer.reshape(-1, self.x.channels, *size)
        sigma = flat.new_full((len(flat),), self.sigma_x)
        clean = self.x.clean(torch.zeros_like(flat), flat, sigma)
        return clean.reshape(len(answer), HEADS, self.x.channels, *size)

    @torch.no_grad()
    def __call__(self, y: Picture) -> Float[Tensor, "b 3 c h w"]:
        """Lower ends, estimates and upper ends of the pictures behind conditions.

        Args:
            y: conditions as the network sees them, image units.
        """
        seen, told = self.inputs(y)
        return self.read(evaluate(self.net, seen, told).to(y.dtype))


def three_heads(denoiser: ConditionalNetworkDenoiser, sigma_x: float) -> BoundsNetwork:
    """The network with its last layer repeated: at first all three are its estimate.

    Args:
        denoiser: a trained conditional network; it is copied.
        sigma_x: the largest noise of x that it was trained on, image units.

    Returns:
        A float32 network without dropout, until someone trains it.
    """
    channels = denoiser.x.channels
    net = UNet(replace(denoiser.net.config, out_channels=HEADS * channels))
    state = dict(denoiser.net.state_dict())
    rows = channels * denoiser.net.config.stem**2  # x's come first
    for name in ("conv_out.weight", "conv_out.bias"):
        state[name] = torch.cat([state[name][:rows]] * HEADS)
    net.load_state_dict({name: value.float() for name, value in state.items()})
    return BoundsNetwork(net.to(denoiser.device).eval(), denoiser.x, denoiser.y, sigma_x)


def pinball(answer: Tensor, truth: Tensor, level: float) -> Float[Tensor, " ..."]:
    r"""The quantile loss :math:`\max(q (x - a), (q - 1)(x - a))`, least at the quantile ``q``."""
    error = truth - answer
    return torch.maximum(level * error, (level - 1) * error)
