"""Pairs with exact answers, and networks that are formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from certes.diffusion.problems import ConditionalGaussian, GaussianProblem
from certes.networks.conditional import Block, ConditionalNetworkDenoiser
from certes.networks.unet import UNet, UNetConfig

SHAPE = (1, 1, 2)
TAU = 0.1


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def mixing(x: Tensor) -> Tensor:
    """A measurement that keeps the shape and couples the pixels."""
    return x @ torch.tensor([[0.9, -0.4], [0.3, 0.7]]).to(x)


def pairs(scale: float = 1.0, mean: float = 0.4, noise: float = TAU) -> ConditionalGaussian:
    """Two correlated pixels and two measurements of them."""
    covariance = scale**2 * torch.tensor([[0.09, 0.03], [0.03, 0.04]], dtype=torch.float64)
    problem = GaussianProblem(torch.full(SHAPE, mean, dtype=torch.float64), covariance)
    return ConditionalGaussian(problem, mixing, noise)


class FormulaNet(nn.Module):
    """A network that is a formula of what it sees and what it is told."""

    def __init__(
        self, channels: tuple[int, int], answer: Callable[[Tensor, Tensor], Tensor], levels: int = 2
    ) -> None:
        super().__init__()
        self.config = UNetConfig(
            in_channels=channels[0],
            out_channels=channels[1],
            down_block_types=("DownBlock2D",),
            up_block_types=("UpBlock2D",),
            block_out_channels=(8,),
            noise_levels=levels,
        )
        self.conv_in = nn.Conv2d(1, 1, 1, dtype=torch.float64)
        self.answer = answer

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        return self.answer(x, told)


def denoiser_of(
    answer: Callable[[Tensor, Tensor], Tensor], x: Block, y: Block, predicts_y: bool = True
) -> ConditionalNetworkDenoiser:
    channels = (x.channels + y.channels, x.channels + y.channels * predicts_y)
    return ConditionalNetworkDenoiser(cast(UNet, FormulaNet(channels, answer)), x, y)
