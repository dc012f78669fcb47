"""Presets of models of functions, by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from certes.function_space.config import CODE_CELLS, PLACE_CHANNELS
from certes.function_space.training_config import FunctionConfig
from certes.training.presets import config_of_kind


def operator_keys(
    domain: int, widths: list[int], grid: int, latent: int = 0, **more: Any
) -> dict[str, Any]:
    """Keys of an operator network.

    Args:
        domain: side of the training patches.
        widths: channels of the U-Net's levels.
        grid: channels between the points and the grid.
        latent: numbers of a code.
        more: other keys of :class:`~certes.function_space.config.OperatorConfig`.
    """
    unet = {
        "in_channels": grid + PLACE_CHANNELS + latent // CODE_CELLS**2,
        "out_channels": grid,
        "block_out_channels": widths,
        "down_block_types": ["DownBlock2D"] * len(widths),
        "up_block_types": ["UpBlock2D"] * len(widths),
        "layers_per_block": 1,
        "norm_num_groups": 16,
        "resnet_time_scale_shift": "scale_shift",
    }
    return {"unet": unet, "domain": domain, "latent": latent, **more}


PRESETS: dict[str, FunctionConfig] = {
    # Fluorescence pictures of nuclei: an hour of one CPU core.
    "nuclei-functions": FunctionConfig(
        network=operator_keys(64, [48, 96, 128], grid=32, latent=128, blocks=1),
        batch=16,
        steps=5000,
        warmup=300,
        center=0.08,
        scale=0.15,
        checkpoint_every=100,
        sample_every=1000,
    ),
    # The same on larger crops, for a GPU.
    "nuclei-functions-large": FunctionConfig(
        network=operator_keys(
            128, [96, 192, 256], grid=64, latent=256, width=64, blocks=2, encoder=[64, 96, 128, 192]
        ),
        patch=128,
        batch=64,
        steps=40_000,
        learning_rate=5e-4,
        center=0.08,
        scale=0.15,
        checkpoint_every=1000,
        sample_every=10_000,
    ),
}
# A minute's trial, with everything that the others have.
PRESETS["tiny-functions"] = replace(
    PRESETS["nuclei-functions"],
    network=operator_keys(
        16, [16, 16], grid=16, latent=32, blocks=1, width=16, reach=1, encoder=[16, 16]
    ),
    patch=16,
    batch=8,
    steps=20,
    warmup=5,
    precision="no",
    checkpoint_every=5,
    sample_every=20,
)


def load_function_config(name: str) -> FunctionConfig | None:
    """A preset by name, or a JSON file with the fields of a :class:`FunctionConfig`.

    ``None`` for anything that describes no such run.

    Raises:
        InputError: if a file says that it is one and has unknown fields.
    """
    return config_of_kind(name, PRESETS, FunctionConfig, "mollifier_width")
