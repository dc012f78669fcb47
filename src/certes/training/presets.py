"""Named training runs: everything that a run depends on, data folder aside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

from certes.diffusion.schedules import linear_betas
from certes.errors import InputError
from certes.training.config import RunConfig, TrainingConfig

Configured = TypeVar("Configured", bound=RunConfig)


def unet_keys(
    channels: int, size: int, widths: list[int], attention: int | None = None, **other: Any
) -> dict[str, Any]:
    """A network with or without attention at one of its levels, and then in the middle."""
    levels = range(len(widths))
    attends = ["Attn" if level == attention else "" for level in levels]
    return {
        "sample_size": size,
        "in_channels": channels,
        "out_channels": channels,
        "block_out_channels": widths,
        "down_block_types": [f"{a}DownBlock2D" for a in attends],
        "up_block_types": [f"{a}UpBlock2D" for a in reversed(attends)],
        "add_attention": attention is not None,
        "attention_head_dim": None,
        "norm_eps": 1e-6,
        **other,
    }


def _plain_unet(widths: list[int], layers: int, stem: int, channels: int = 1) -> dict[str, Any]:
    """Pictures in, velocity and log-variance out, no attention: fully convolutional."""
    return unet_keys(
        channels, 64, widths, out_channels=2 * channels, layers_per_block=layers, stem=stem
    )


def _ddpm_unet(size: int, widths: list[int], attention: int, dropout: float) -> dict[str, Any]:
    """The network of Ho et al. 2020 as its code has it: appendix B, and TensorFlow's SAME."""
    return unet_keys(
        3,
        size,
        widths,
        attention,
        layers_per_block=2,
        dropout=dropout,
        norm_num_groups=32,
        downsample_padding=0,
        freq_shift=1,
        flip_sin_to_cos=False,
    )


NUCLEI = TrainingConfig(
    # Standardised to the nuclei pictures' own mean and spread, so that a cosine schedule, which is
    # made for unit variance, spends its noise levels where these dark pictures change.
    _plain_unet([64, 128, 192], 1, 2),
    center=0.08,
    scale=0.15,
)

# Photographs, standardised alike. Luminance only: what a CPU can learn in two hours.
PHOTO_GREY = TrainingConfig(
    _plain_unet([48, 96, 128], 1, 2) | {"norm_num_groups": 16},
    center=0.43,
    scale=0.23,
    busy=0.25,
    steps=3000,
)

# To the letter: appendix B and the code of Ho et al. 2020. Tables 1 and 2 vary it.
DDPM_CIFAR10 = TrainingConfig(
    _ddpm_unet(32, [128, 256, 256, 256], attention=1, dropout=0.1),
    schedule=json.loads(json.dumps(linear_betas().to_config())),
    prediction="noise",
    objective="simple",
    variance="large",
    weights="uniform",
    times="uniform",
    patch=32,
    busy=0.0,
    symmetries="flips",
    batch=128,
    steps=800_000,
    learning_rate=2e-4,
    warmup=5000,
    rate_decay="constant",
    clip=1.0,
    ema=0.9999,
    ema_ramp=False,
    precision="no",
    checkpoint_every=5000,
    sample_every=20_000,
)
_DDPM_LEARNED = DDPM_CIFAR10.network | {"out_channels": 6}

# For a small budget: velocity of standardised pictures, a head that says how large its errors are,
# pictures weighted by it, a short warm-up and a learning rate that ends at zero.
CIFAR10_SMALL = TrainingConfig(  # for a CPU: 8.4 M parameters, a thirteenth of DDPM's arithmetic
    unet_keys(3, 32, [96, 160, 192], out_channels=6, layers_per_block=1, stem=2),
    center=0.47,
    scale=0.25,
    patch=32,
    busy=0.0,
    symmetries="flips",
    batch=128,
    steps=8000,
)
# For a GPU: 16.2 M parameters, 33 MB as bfloat16.
_FAST_UNET = unet_keys(
    3, 32, [128, 192, 192], 1, out_channels=6, dropout=0.1, layers_per_block=2
) | {"attention_head_dim": 64}

PRESETS: dict[str, TrainingConfig] = {
    "nuclei": NUCLEI,
    "nuclei-large": replace(  # 12 M parameters: 24 MB as bfloat16
        NUCLEI,
        network=_plain_unet([96, 160, 192], 2, 2),
        batch=256,
        steps=30000,
        compile=True,
        checkpoint_every=500,
    ),
    "photo-grey": PHOTO_GREY,
    "photo": replace(  # in colour, for a GPU
        PHOTO_GREY,
        network=_plain_unet([128, 192, 256], 2, 2, channels=3),  # 20 M parameters, 40 MB
        batch=256,
        steps=40000,
        compile=True,
        checkpoint_every=500,
    ),
    "tiny": replace(
        NUCLEI,
        network=_plain_unet([32, 32], 1, 2),
        patch=32,
        batch=8,
        steps=20,
        warmup=5,
        precision="no",
        checkpoint_every=5,
        sample_every=20,
    ),
    # Table 1 and, of table 2, the rows that predict the noise.
    "ddpm-cifar10": DDPM_CIFAR10,
    "ddpm-cifar10-bound": replace(DDPM_CIFAR10, objective="bound"),
    "ddpm-cifar10-bound-learned": replace(DDPM_CIFAR10, objective="bound", network=_DDPM_LEARNED),
    # The rows of table 2 that predict the mean of the reverse step.
    "ddpm-cifar10-mean": replace(DDPM_CIFAR10, prediction="mean"),
    "ddpm-cifar10-mean-bound": replace(DDPM_CIFAR10, prediction="mean", objective="bound"),
    "ddpm-cifar10-mean-bound-learned": replace(
        DDPM_CIFAR10, prediction="mean", objective="bound", network=_DDPM_LEARNED
    ),
    # CelebA-HQ; the paper trains LSUN church, cat and bedroom for 1.2, 1.8 and 2.4 million steps.
    "ddpm-256": replace(
        DDPM_CIFAR10,
        network=_ddpm_unet(256, [128, 128, 256, 256, 512, 512], attention=4, dropout=0.0),
        variance="small",
        patch=256,
        batch=64,
        steps=500_000,
        learning_rate=2e-5,
    ),
    "cifar10-small": CIFAR10_SMALL,
    "cifar10-fast": replace(
        CIFAR10_SMALL,
        network=_FAST_UNET,
        batch=256,
        steps=30_000,
        learning_rate=8e-4,
        warmup=500,
        ema_share=0.05,
        compile=True,
        checkpoint_every=500,
        sample_every=5000,
    ),
}


def load_config(name: str) -> TrainingConfig:
    """A preset by name, or a JSON file with the fields of :class:`TrainingConfig`.

    Raises:
        InputError: if it is neither, or the file has unknown fields.
    """
    if name in PRESETS:
        return PRESETS[name]
    path = Path(name)
    if not path.is_file():
        raise InputError(f"config: {name!r} is no file and no preset; presets: {sorted(PRESETS)}")
    try:
        return TrainingConfig(**json.loads(path.read_text()))
    except (TypeError, json.JSONDecodeError) as error:
        raise InputError(f"config: {path} does not describe a run ({error})") from error


def config_of_kind(
    name: str, presets: Mapping[str, Configured], kind: type[Configured], mark: str
) -> Configured | None:
    """A preset of a kind of run by name, or a JSON file with the fields of its configuration.

    ``None`` for anything that describes no run of this kind.

    Args:
        name: of the preset or the file.
        presets: of this kind.
        kind: its configuration.
        mark: the field that configurations of this kind alone have.

    Raises:
        InputError: if a file has that field and others that are unknown.
    """
    if name in presets:
        return presets[name]
    path = Path(name)
    try:
        fields: Any = json.loads(path.read_text()) if path.is_file() else {}
    except (UnicodeDecodeError, json.JSONDecodeError):
        return None
    if not isinstance(fields, dict) or mark not in fields:
        return None
    try:
        return kind(**cast(dict[str, Any], fields))
    except TypeError as error:
        raise InputError(f"config: {path} does not describe a run ({error})") from error
