"""Models written so that diffusers reads them (and certes, too)."""

from __future__ import annotations

from math import isclose
from pathlib import Path
from typing import Any

from certes.data.files import move, naming, scratch_folder, write_json
from certes.data.tensors import write_tensors
from certes.diffusion.schedules import DiscreteBetas
from certes.errors import InputError, ModelError
from certes.networks.config import OWN, UNetConfig
from certes.networks.denoiser import NetworkDenoiser
from certes.networks.files import CONFIG, WEIGHTS
from certes.networks.foreign import PREDICTIONS, SCHEDULER, read_schedule
from certes.networks.model import Model

_INDEX = {
    "_class_name": "DDPMPipeline",
    "scheduler": ["diffusers", "DDPMScheduler"],
    "unet": ["diffusers", "UNet2DModel"],
}


def save_diffusers(model: Model, folder: Path) -> None:
    """Write a folder that ``diffusers.DDPMPipeline.from_pretrained`` reads, with equal outputs.

    Weights are stored as the model holds them: load it with ``dtype=torch.float32`` to lose none.

    Args:
        model: what is written.
        folder: where; it must be new or empty.

    Raises:
        ModelError: naming what diffusers cannot express.
        InputError: if something is there already.
    """
    denoiser = model.denoiser
    network, scheduler = unet_config(denoiser.net.config), scheduler_config(denoiser, model.card)
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"out: {folder} is not empty; give a new folder")
    with naming(folder, folder.parent), scratch_folder(folder.parent) as hidden:
        whole = hidden / folder.name
        write_json(whole / "unet" / CONFIG, network)
        write_tensors(whole / "unet" / WEIGHTS, denoiser.net.state_dict())
        write_json(whole / "scheduler" / SCHEDULER, scheduler)
        write_json(whole / "model_index.json", _INDEX)
        move([whole], folder.parent)


def unet_config(config: UNetConfig) -> dict[str, Any]:
    """The ``config.json`` of ``UNet2DModel``.

    Raises:
        ModelError: if that has no such network.
    """
    _check("stem", config.stem == 1, "a pixel-unshuffle before the network")
    _check("noise_levels", config.noise_levels == 1, "a noise level for each block of channels")
    same = config.sinusoids == config.block_out_channels[0]
    _check("time_proj_dim", same, "sinusoids of another width than the first level's")
    told = {key: value for key, value in config.to_dict().items() if key not in OWN}
    return {"_class_name": "UNet2DModel", **told, "attention_head_dim": _head_dim(config)}


def _head_dim(config: UNetConfig) -> int | None:
    """One number for every level, or None where every attention has a single head."""
    if not isinstance(config.attention_head_dim, tuple):
        return config.attention_head_dim
    levels = range(len(config.block_out_channels))
    attending = {
        level
        for level in levels
        if {config.down_block_types[level], config.up_block_types[-1 - level]}
        & {"AttnDownBlock2D", "AttnUpBlock2D"}
    } | {levels[-1]}
    dims = {config.head_dim(level) for level in attending}
    _check("attention_head_dim", len(dims) == 1, f"heads of several widths {sorted(dims)}")
    return dims.pop()


def scheduler_config(denoiser: NetworkDenoiser, card: dict[str, Any]) -> dict[str, Any]:
    """The ``scheduler_config.json`` of ``DDPMScheduler``.

    Args:
        denoiser: says the schedule, and what is predicted.
        card: may hold the ``scheduler`` settings of the folder that the model was read from.

    Raises:
        ModelError: if that has no such schedule or prediction.
    """
    predictions = {ours: theirs for theirs, ours in PREDICTIONS.items()}
    name, schedule = denoiser.parametrisation.name, denoiser.schedule
    _check("prediction", name in predictions, f"{name!r}")
    _check("head", denoiser.head != "residual", "log-variances of the prediction's errors")
    _check("center, scale", denoiser.center == denoiser.scale == 0.5, "pictures not in [-1, 1]")
    if not isinstance(schedule, DiscreteBetas):
        raise ModelError(f"schedule: diffusers cannot express {schedule.kind!r}, only tables")
    variance = "learned_range" if denoiser.head == "range" else "fixed_small"
    return {
        "_class_name": "DDPMScheduler",
        "variance_type": variance,
        "clip_sample": True,
        **card.get("scheduler", {}),
        "prediction_type": predictions[name],
        "num_train_timesteps": schedule.steps,
        **_table(schedule),
    }


def _table(schedule: DiscreteBetas) -> dict[str, Any]:
    """By its ends, where that gives the very table; else entry by entry."""
    betas = schedule.betas
    ends = {"beta_start": betas[0], "beta_end": betas[-1]}
    for kind, more in (("linear", ends), ("scaled_linear", ends), ("squaredcos_cap_v2", {})):
        config = {"beta_schedule": kind, **more}
        again = read_schedule({"num_train_timesteps": len(betas), **config}).betas
        if all(isclose(a, b, rel_tol=1e-12) for a, b in zip(again, betas, strict=True)):
            return config
    return {"trained_betas": list(betas)}


def _check(key: str, expressible: bool, what: str) -> None:
    if not expressible:
        raise ModelError(f"{key}: diffusers cannot express {what}")
