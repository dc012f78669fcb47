"""A few real pictures and the smallest network, on the CPU even where there is a GPU."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from certes.data.patches import PatchDataset, load_folder
from certes.diffusion.schedules import linear_betas
from certes.training.config import TrainingConfig
from certes.training.presets import PRESETS

os.environ["ACCELERATE_USE_CPU"] = "true"  # resumed runs are equal bit for bit there

PICTURES = Path(__file__).parent.parent / "data" / "nuclei-train"


@pytest.fixture(scope="session")
def data() -> PatchDataset:
    return PatchDataset(load_folder(PICTURES), size=16)


@pytest.fixture
def config() -> TrainingConfig:
    return shrunk()


def shrunk(**changes: Any) -> TrainingConfig:
    """The preset ``tiny``, tinier."""
    network = PRESETS["tiny"].network | {"block_out_channels": [16, 16], "norm_num_groups": 8}
    sizes: dict[str, Any] = {
        "network": network,
        "patch": 16,
        "batch": 4,
        "steps": 12,
        "checkpoint_every": 5,
        "sample_every": 12,
    }
    return replace(PRESETS["tiny"], **(sizes | changes))


def plain() -> dict[str, Any]:
    """Changes: a network that predicts no variances."""
    return {"network": shrunk().network | {"out_channels": 1}, "weights": "uniform"}


def tabled(**changes: Any) -> TrainingConfig:
    """With a table of ten coarse steps, of predicted noise."""
    schedule = linear_betas(10, 0.01, 0.3).to_config()
    return shrunk(**({"schedule": schedule, "prediction": "noise"} | changes))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
