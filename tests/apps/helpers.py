"""A tiny model with random weights, small pictures, and what a call of the program answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from certes.data.bundled import bundled_pictures
from certes.data.pictures import Picture, write_picture
from certes.diffusion.parametrisation import Parametrisation
from certes.diffusion.residuals import ResidualSpectrum
from certes.diffusion.schedules import Cosine
from certes.networks.denoiser import NetworkDenoiser
from certes.networks.model import save_model
from certes.networks.unet import UNet, UNetConfig

FEW = ("--samples", "2", "--steps", "2")


@dataclass(frozen=True)
class Answer:
    """What a call of the program left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out)


Certes = Callable[..., Answer]


def tiny_model(folder: Path, channels: int, name: str) -> Path:
    config = UNetConfig(
        sample_size=16,
        in_channels=channels,
        out_channels=2 * channels,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        add_attention=False,
        attention_head_dim=None,
        stem=2,
    )
    torch.manual_seed(0)
    spectrum = ResidualSpectrum(
        torch.tensor([0.01, 1.0], dtype=torch.float64), torch.full((2, channels, 16, 16), 0.1)
    )
    denoiser = NetworkDenoiser(UNet(config), Cosine(), Parametrisation("v"), spectrum=spectrum)
    save_model(folder, denoiser, {"name": name, "licence": "CC0-1.0"}, torch.float32)
    return folder


def grey(path: Path, part: int = 0) -> Path:
    pixels = bundled_pictures()[-1].pixels[:, 128:160, 64 + 32 * part : 96 + 32 * part]
    path.parent.mkdir(exist_ok=True)
    return save(path, pixels)


def save(path: Path, pixels: torch.Tensor, dtype: Any = "uint8", alpha: Any = None) -> Path:
    write_picture(path, pixels, Picture(path.stem, pixels, alpha, dtype))
    return path


def names(folder: Path) -> list[str]:
    """All files in a folder, hidden ones too."""
    return sorted(p.name for p in folder.iterdir())
