"""Named training runs: everything that a run depends on, data folder aside."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from certes.errors import InputError
from certes.networks.config import UNetConfig


@dataclass(frozen=True)
class TrainingConfig:
    """One training run.

    Args:
        network: keys of the network's ``config.json``.
        schedule: keys of a noise schedule, with its ``kind``.
        prediction: what the network predicts (``noise``, ``x0``, ``v``, ``score``).
        center, scale: image value seen as 0, and image units for one network unit.
        patch: side of the training patches, pixels.
        busy: share of the patches that are chosen for their content (see ``PatchDataset``).
        batch: patches a step, over all processes.
        steps: optimiser steps.
        learning_rate: Adam's, after ``warmup`` steps of linear growth; cosine decay to zero.
        clip: largest gradient norm.
        ema: final decay of the weight average.
        precision: ``bf16`` or ``no`` (float32); process mathematics is float32 either way.
        compile: whether the network is compiled (worth it on a GPU).
        seed: of weights, batches and noise.
        checkpoint_every, sample_every: steps between checkpoints, and between sample grids.

    Raises:
        InputError: for a precision or a patch size that training cannot have, or a number below 1.
    """

    network: dict[str, Any]
    schedule: dict[str, Any] = field(default_factory=lambda: {"kind": "cosine"})
    prediction: str = "v"
    center: float = 0.5
    scale: float = 0.5
    patch: int = 64
    busy: float = 0.5
    batch: int = 32
    steps: int = 4500
    learning_rate: float = 1e-3
    warmup: int = 300
    clip: float = 1.0
    ema: float = 0.999
    precision: str = "bf16"
    compile: bool = False
    seed: int = 0
    checkpoint_every: int = 250
    sample_every: int = 1000

    def __post_init__(self) -> None:
        if self.precision not in ("bf16", "no"):
            raise InputError(f"precision: {self.precision!r}; give 'bf16' or 'no'")
        for name in ("batch", "steps", "checkpoint_every", "sample_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: {getattr(self, name)}; give at least 1")
        multiple = self.unet().multiple
        if self.patch < 1 or self.patch % multiple:
            raise InputError(
                f"patch: {self.patch} pixels; this network needs a multiple of {multiple}"
            )

    def unet(self) -> UNetConfig:
        """The network's shape."""
        return UNetConfig.from_dict(self.network)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return json.loads(json.dumps(asdict(self)))


def _plain_unet(widths: list[int], layers: int, stem: int) -> dict[str, Any]:
    """Grey pictures in, velocity and log-variance out, no attention: fully convolutional."""
    return {
        "sample_size": 64,
        "in_channels": 1,
        "out_channels": 2,
        "block_out_channels": widths,
        "down_block_types": ["DownBlock2D"] * len(widths),
        "up_block_types": ["UpBlock2D"] * len(widths),
        "layers_per_block": layers,
        "add_attention": False,
        "attention_head_dim": None,
        "norm_eps": 1e-6,
        "stem": stem,
    }


PRESETS: dict[str, TrainingConfig] = {
    # Standardised to the nuclei pictures' own mean and spread, so that a cosine schedule, which is
    # made for unit variance, spends its noise levels where these dark pictures change.
    "nuclei": TrainingConfig(_plain_unet([64, 128, 192], 1, 2), center=0.08, scale=0.15),
    "nuclei-large": TrainingConfig(  # 12 M parameters: 24 MB as bfloat16
        _plain_unet([96, 160, 192], 2, 2),
        center=0.08,
        scale=0.15,
        batch=256,
        steps=30000,
        compile=True,
        checkpoint_every=500,
    ),
    "tiny": TrainingConfig(
        _plain_unet([32, 32], 1, 2),
        center=0.08,
        scale=0.15,
        patch=32,
        batch=8,
        steps=20,
        warmup=5,
        precision="no",
        checkpoint_every=5,
        sample_every=20,
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
