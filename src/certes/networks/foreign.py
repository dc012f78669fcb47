"""Plain diffusers DDPM folders: both layouts, and the attention names of before 2023."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from certes.diffusion.parametrisation import Parametrisation
from certes.diffusion.schedules import DiscreteBetas, linear_betas
from certes.errors import ModelError
from certes.networks.classes import at_label
from certes.networks.config import UNetConfig
from certes.networks.denoiser import Head, NetworkDenoiser
from certes.networks.files import CONFIG, WEIGHTS, read_json, read_network, read_tensors

SCHEDULER = "scheduler_config.json"
LEGACY = {
    ".query.": ".to_q.",
    ".key.": ".to_k.",
    ".value.": ".to_v.",
    ".proj_attn.": ".to_out.0.",
}
PREDICTIONS = {"epsilon": "noise", "sample": "x0", "v_prediction": "v"}
_MOST_STEPS = 10**5
# Settings of a scheduler that belong to sampling with it, not to the network; kept for its users.
SAMPLING = (
    "variance_type",
    "clip_sample",
    "clip_sample_range",
    "thresholding",
    "dynamic_thresholding_ratio",
    "sample_max_value",
    "timestep_spacing",
    "steps_offset",
)


def read_diffusers(
    folder: Path, weights: Path | None, label: int | None
) -> tuple[NetworkDenoiser, dict[str, Any]]:
    """Read a folder that ``DDPMPipeline.save_pretrained`` (or its predecessor) wrote.

    Args:
        folder: the pipeline's folder (``unet/``, ``scheduler/``, or everything at its root).
        weights: the weights file, if the user named one; then ``folder`` is the file's own.
        label: of a class-conditional network.

    Returns:
        The denoiser, and what a ``certes.json`` would say of it.

    Raises:
        ModelError: if something is missing or is not a DDPM.
    """
    network = folder / "unet" if (folder / "unet" / CONFIG).is_file() else folder
    scheduler = read_json(_scheduler(folder))
    path = weights or _weights(network)
    state = {modern_name(name): value for name, value in read_tensors(path).items()}
    net = read_network(*at_label(read_json(network / CONFIG), path, state, label))
    denoiser = NetworkDenoiser(
        net,
        read_schedule(scheduler),
        read_prediction(scheduler),
        head=_read_head(net.config, scheduler),
    )
    # A network named by its file sits in unet/; people know the pipeline's name.
    home = folder.parent if folder.name == "unet" else folder
    card = {"kind": "unconditional", "name": home.resolve().name, "source": "diffusers"}
    sampling = {key: value for key, value in scheduler.items() if key in SAMPLING}
    return denoiser, {**card, "scheduler": sampling}


def modern_name(name: str) -> str:
    """Today's name of an attention parameter."""
    for old, new in LEGACY.items():
        name = name.replace(old, new)
    return name


def read_schedule(config: dict[str, Any]) -> DiscreteBetas:
    """The noise schedule of a ``scheduler_config.json``.

    Raises:
        ModelError: if its kind of schedule is unknown.
    """
    if config.get("rescale_betas_zero_snr"):
        raise ModelError("model: rescale_betas_zero_snr of its scheduler is not supported")
    steps = int(config.get("num_train_timesteps", 1000))
    if not 1 <= steps <= _MOST_STEPS:
        raise ModelError(
            f"model: num_train_timesteps {steps} of its scheduler; expected 1 to {_MOST_STEPS}"
        )
    if config.get("trained_betas"):
        return DiscreteBetas(tuple(config["trained_betas"]))
    first, last = config.get("beta_start", 1e-4), config.get("beta_end", 0.02)
    match config.get("beta_schedule", "linear"):
        case "linear":
            return linear_betas(steps, first, last)
        case "scaled_linear":
            roots = torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64)
            return DiscreteBetas(tuple(map(float, roots**2)))
        case "squaredcos_cap_v2":
            return DiscreteBetas(tuple(map(float, _cosine_betas(steps))))
        case other:
            raise ModelError(f"model: beta_schedule {other!r} of its scheduler is not supported")


def _cosine_betas(steps: int) -> Tensor:
    r""":math:`1 - \bar\alpha_{i+1} / \bar\alpha_i`, at most .999 (Nichol & Dhariwal 2021)."""
    u = torch.arange(steps + 1, dtype=torch.float64) / steps
    alpha_bar = torch.cos((u + 0.008) / 1.008 * torch.pi / 2) ** 2
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)


def read_prediction(config: dict[str, Any]) -> Parametrisation:
    """What the network predicts.

    Raises:
        ModelError: if diffusers would know it and certes does not.
    """
    kind = config.get("prediction_type", "epsilon")
    if kind not in PREDICTIONS:
        raise ModelError(f"model: prediction_type {kind!r}; expected one of {sorted(PREDICTIONS)}")
    return Parametrisation(PREDICTIONS[kind])


def _read_head(config: UNetConfig, scheduler: dict[str, Any]) -> Head | None:
    outputs, inputs = config.out_channels, config.in_channels
    if outputs == inputs:
        return None
    kind = scheduler.get("variance_type", "fixed_small")
    if outputs == 2 * inputs and kind == "learned_range":
        return "range"
    raise ModelError(
        f"model: {outputs} output channels for {inputs} of input, with variance_type {kind!r}; "
        "as many outputs, or twice as many with 'learned_range', can be used"
    )


def _weights(network: Path) -> Path:
    if (network / WEIGHTS).is_file():
        return network / WEIGHTS
    pickles = sorted(network.glob("*.bin"))
    hint = f"; pass {pickles[0]} itself if you trust it" if pickles else ""
    raise ModelError(f"model {network}: {WEIGHTS} is missing{hint}")


def _scheduler(folder: Path) -> Path:
    places = (folder / "scheduler", folder, folder.parent / "scheduler")
    for place in places:
        if (place / SCHEDULER).is_file():
            return place / SCHEDULER
    raise ModelError(f"model {folder}: no {SCHEDULER}; is it a DDPM folder?")
