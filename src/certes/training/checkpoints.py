"""Training state on disk: one safetensors file, replaced atomically, never a pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from certes.data.files import atomic_path
from certes.errors import ModelError
from certes.training.averaging import WeightAverage


def save_checkpoint(
    path: Path,
    net: nn.Module,
    average: WeightAverage,
    optimiser: torch.optim.Adam,
    step: int,
    config: Mapping[str, Any],
) -> None:
    """Everything that the next step depends on; the file is the old one or the new one."""
    tensors = {f"net.{name}": value for name, value in net.state_dict().items()}
    tensors |= {f"ema.{name}": value for name, value in average.weights.items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{key}": value for key, value in state.items()}
    content = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    header = {"step": str(step), "config": json.dumps(dict(config), sort_keys=True)}
    with atomic_path(path) as temporary:
        save_file(content, temporary, metadata=header)


def load_checkpoint(
    path: Path,
    net: nn.Module,
    average: WeightAverage,
    optimiser: torch.optim.Adam,
    config: Mapping[str, Any],
) -> int:
    """Restore the state that :func:`save_checkpoint` wrote; returns its step.

    Raises:
        ModelError: if the file is damaged, or was written by another configuration.
    """
    try:
        with safe_open(path, "pt") as file:  # pyright: ignore[reportUnknownVariableType]
            header: dict[str, str] = file.metadata()  # pyright: ignore
            tensors: dict[str, Tensor] = {k: file.get_tensor(k) for k in file.keys()}  # pyright: ignore  # noqa: SIM118
    except SafetensorError as error:
        raise ModelError(f"checkpoint {path}: damaged ({error}); delete it to start again") from error
    if header["config"] != json.dumps(dict(config), sort_keys=True):
        raise ModelError(
            f"checkpoint {path}: written by another configuration; give the same preset, "
            "or another --out folder"
        )
    net.load_state_dict(_part(tensors, "net."))
    average.weights = {k: v.to(average.weights[k]) for k, v in _part(tensors, "ema.").items()}
    _load_adam(optimiser, _part(tensors, "adam."))
    return int(header["step"])


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _load_adam(optimiser: torch.optim.Adam, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".")
        state.setdefault(int(index), {})[key] = value
    whole = optimiser.state_dict()
    whole["state"] = state
    optimiser.load_state_dict(whole)
