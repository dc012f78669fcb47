"""A few real pictures and the smallest network, on the CPU even where there is a GPU."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from certes.data.patches import PatchDataset, load_folder
from certes.training.presets import PRESETS, TrainingConfig

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
