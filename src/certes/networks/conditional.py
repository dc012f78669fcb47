r"""From a network on pairs :math:`[x_t, y_t]` to a conditional denoiser.

Each block of channels is brought to unit variance whatever its noise: with
:math:`z_0 = (x_0 - c) / s` and the noise level :math:`\rho = \sigma / s` the network sees
:math:`z = (z_0 + \rho e) / \sqrt{1 + \rho^2}`, is told :math:`\log\rho` of every block, and
answers with the velocity :math:`v = (e - \rho z_0) / \sqrt{1 + \rho^2}` (Salimans & Ho 2022,
arXiv:2202.00512), of which :math:`z_0 = (z - \rho v) / \sqrt{1 + \rho^2}`. The original
(Batzolis et al. 2021) feeds noise of standard deviation 277 to the network as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from certes.data.fields import of_kinds
from certes.diffusion.denoiser import ConditionalDenoiser, Denoised, JointlyDenoised
from certes.errors import ModelError
from certes.networks.denoiser import evaluate
from certes.networks.unet import UNet

Picture = Float[Tensor, "b c h w"]
Scalars = Float[Tensor, " b"]

# Noise below this share of the pictures' own spread counts as none.
_LEAST = 1e-4
# What is told runs over about a thousand, like the steps of a table.
_TOLD = 100.0
_FAR = 1e12  # beyond it float32 pictures are no pictures, and their file is damaged


@dataclass(frozen=True)
class Block:
    """Channels of the network's input that share a noise level.

    Args:
        channels: how many.
        center: image value that the network sees as 0.
        scale: image units for one network unit.

    Raises:
        ModelError: for numbers that no pictures have.
    """

    channels: int
    center: float = 0.5
    scale: float = 0.5

    def __post_init__(self) -> None:
        if not (self.channels > 0 and 0 < self.scale < _FAR and abs(self.center) < _FAR):
            raise ModelError(
                f"block: channels, center, scale = {self.channels}, {self.center}, {self.scale}; "
                f"give numbers below {_FAR:g}, channels and scale above 0"
            )

    def normalised(self, x0: Picture) -> Picture:
        """Image units to network units."""
        return (x0 - self.center) / self.scale

    def ratio(self, sigma: Scalars) -> Scalars:
        r""":math:`\rho`: a noise level in network units."""
        return sigma / self.scale

    def told(self, sigma: Scalars) -> Scalars:
        """What the network is told of a noise level."""
        return _TOLD * self.ratio(sigma).clamp(min=_LEAST).log()

    def seen(self, x: Picture, sigma: Scalars) -> Picture:
        """What the network sees of ``x = x_0 + sigma e``, image units."""
        return self.normalised(x) * shrinkage(self.ratio(sigma), x)

    def velocity(self, x0: Picture, noise: Picture, sigma: Scalars) -> Picture:
        r""":math:`v`: what it should answer."""
        ratio = self.ratio(sigma)
        return (noise - _column(ratio, x0) * self.normalised(x0)) * shrinkage(ratio, x0)

    def clean(self, seen: Picture, velocity: Picture, sigma: Scalars) -> Picture:
        """The picture in its answer, image units."""
        ratio = self.ratio(sigma)
        z0 = (seen - _column(ratio, seen) * velocity) * shrinkage(ratio, seen)
        return self.center + self.scale * z0

    def to_config(self) -> dict[str, Any]:
        """A JSON-able description."""
        return asdict(self)


def block_from_config(config: Mapping[str, Any]) -> Block:
    """The block that :meth:`Block.to_config` described.

    Raises:
        ModelError: for keys that a block does not have, or values that are none.
    """
    try:
        return of_kinds(Block(**config))
    except TypeError as error:
        raise ModelError(
            f"block: {dict(config)} ({error}); give channels, center and scale"
        ) from error


def shrinkage(ratio: Scalars, like: Picture) -> Float[Tensor, "b 1 1 1"]:
    r""":math:`1 / \sqrt{1 + \rho^2}`, broadcastable to pictures."""
    return _column((1 + ratio.double() ** 2).rsqrt(), like)


def _column(values: Scalars, like: Picture) -> Float[Tensor, "b 1 1 1"]:
    return values.to(like)[:, None, None, None]


class ConditionalNetworkDenoiser(ConditionalDenoiser):
    """A U-Net on pairs, read as ``E[x_0 | x_t, y_t]``.

    Args:
        net: sees x's channels, then y's; predicts the velocity of x's, or of both.
        x: the picture's block.
        y: the condition's block.

    Raises:
        ModelError: if the network has not these channels, or is not told two noise levels.
    """

    confined = True

    def __init__(self, net: UNet, x: Block, y: Block) -> None:
        config = net.config
        both = x.channels + y.channels
        if config.in_channels != both or config.out_channels not in (x.channels, both):
            raise ModelError(
                f"config: {config.in_channels} channels in and {config.out_channels} out for a "
                f"picture of {x.channels} and a condition of {y.channels}; give {both} in, and "
                f"{x.channels} or {both} out"
            )
        if config.noise_levels != 2:
            raise ModelError(
                f"config: noise_levels = {config.noise_levels}; pairs have 2, x's and y's"
            )
        self.net, self.x, self.y = net, x, y

    @property
    def predicts_y(self) -> bool:
        """Whether it also estimates the condition."""
        return self.net.config.out_channels > self.x.channels

    @property
    def device(self) -> torch.device:
        """Where the network lives; pictures must be there too."""
        return next(self.net.parameters()).device

    def __call__(
        self, x: Picture, sigma_x: Scalars, y: Picture, sigma_y: Scalars
    ) -> JointlyDenoised:
        """``E[x_0 | x_t, y_t]`` and, where the network predicts it, ``E[y | x_t, y_t]``.

        The answer is part of a graph only if ``x`` or ``y`` asks for gradients.

        Raises:
            ModelError: if picture or condition have other channels than the network.
        """
        wanted = (self.x.channels, self.y.channels)
        if (x.shape[1], y.shape[1]) != wanted or x.shape[2:] != y.shape[2:]:
            raise ModelError(
                f"model: picture {tuple(x.shape[1:])} and condition {tuple(y.shape[1:])}; wanted "
                f"{wanted[0]} and {wanted[1]} channels of one size"
            )
        graph = torch.is_grad_enabled() and (x.requires_grad or y.requires_grad)
        with torch.set_grad_enabled(graph):
            return self._denoised(x, sigma_x, y, sigma_y)

    def _denoised(
        self, x: Picture, sigma_x: Scalars, y: Picture, sigma_y: Scalars
    ) -> JointlyDenoised:
        seen_x, seen_y = self.x.seen(x, sigma_x), self.y.seen(y, sigma_y)
        told = torch.stack([self.x.told(sigma_x), self.y.told(sigma_y)], dim=1)
        told = told.to(torch.promote_types(x.dtype, torch.float32))
        answer = evaluate(self.net, torch.cat([seen_x, seen_y], dim=1), told).to(x.dtype)
        channels = self.x.channels
        mean = self.x.clean(seen_x, answer[:, :channels], sigma_x)
        condition = None
        if self.predicts_y:
            condition = self.y.clean(seen_y, answer[:, channels:], sigma_y)
        return JointlyDenoised(Denoised(mean), condition)
