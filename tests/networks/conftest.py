"""Small networks whose every weight matters."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch

from certes.diffusion.parametrisation import Parametrisation
from certes.diffusion.residuals import ResidualSpectrum
from certes.diffusion.schedules import Cosine
from certes.networks import NetworkDenoiser, UNet, UNetConfig

# Nothing here may ask a model hub: there is nothing to be had, and the tests run offline.
os.environ["HF_HUB_OFFLINE"] = "1"

SMALL: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": [8, 16],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 8,
}


@pytest.fixture
def small_config() -> dict[str, Any]:
    return dict(SMALL)


def scramble(net: torch.nn.Module) -> None:
    """Weights of an ordinary size, biases and norms included, so that an unused one would show."""
    generator = torch.Generator().manual_seed(7)
    for value in net.state_dict().values():
        value.copy_(torch.randn(value.shape, generator=generator) * value[0].numel() ** -0.5)


@pytest.fixture
def make_denoiser() -> Callable[..., NetworkDenoiser]:
    def make(spectrum: bool = True, **changes: Any) -> NetworkDenoiser:
        net = UNet(UNetConfig.from_dict(SMALL | changes))
        scramble(net)
        measured = ResidualSpectrum(
            torch.tensor([0.01, 0.1, 1.0], dtype=torch.float64),
            torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1)) + 0.1,
        )
        return NetworkDenoiser(
            net, Cosine(), Parametrisation("v"), 0.1, 0.2, measured if spectrum else None
        )

    return make
