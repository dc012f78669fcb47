"""Training state on disk: one safetensors file, replaced atomically, never a pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import safetensors
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from certes.data.tensors import write_tensors
from certes.errors import ModelError
from certes.training.averaging import WeightAverage

# What a run may change when it goes on: nothing that its steps depend on.
_FREE = ("checkpoint_every", "sample_every")


def save_checkpoint(
    path: Path,
    net: nn.Module,
    average: WeightAverage,
    optimiser: torch.optim.Adam,
    levels: Mapping[str, Tensor],
    step: int,
    config: Mapping[str, Any],
) -> None:
    """Everything that the next step depends on; the file is the old one or the new one.

    Args:
        path: the file.
        net: the network in training.
        average: of its weights.
        optimiser: its state.
        levels: what was learned of the noise levels, by name.
        step: steps made.
        config: what is trained.
    """
    tensors = {f"net.{name}": value for name, value in net.state_dict().items()}
    tensors |= {f"levels.{name}": value for name, value in levels.items()}
    tensors |= {f"ema.{name}": value for name, value in average.weights.items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{key}": value for key, value in state.items()}
    header = {"step": str(step), "config": json.dumps(dict(config), sort_keys=True)}
    write_tensors(path, tensors, header)


def load_checkpoint(
    path: Path,
    net: nn.Module,
    average: WeightAverage,
    optimiser: torch.optim.Adam,
    levels: Mapping[str, Tensor],
    config: Mapping[str, Any],
) -> int:
    """Restore the state that :func:`save_checkpoint` wrote into its owners; returns its step.

    Raises:
        ModelError: if the file is damaged, or was written by another configuration.
    """
    header, tensors = _read(path)
    _check_config(path, json.loads(header["config"]), config)
    net.load_state_dict(_part(tensors, "net."))
    for owned, prefix in ((average.weights, "ema."), (levels, "levels.")):
        saved = _part(tensors, prefix)
        for name, value in owned.items():
            value.copy_(saved[name])
    _load_adam(optimiser, _part(tensors, "adam."))
    return int(header["step"])


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with cast(Any, safetensors).safe_open(path, "pt") as file:
            header: dict[str, str] = file.metadata() or {}
            names: list[str] = list(file.keys())
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"checkpoint {path}: damaged ({error}); remove it to start again") from (
            error
        )
    if not {"step", "config"} <= set(header):
        raise ModelError(f"checkpoint {path}: holds no training state; give another --out folder")
    return header, tensors


def _check_config(path: Path, saved: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    for key in sorted({*saved, *config} - {*_FREE}):
        if saved.get(key) != config.get(key):
            raise ModelError(
                f"checkpoint {path}: written with {key} = {saved.get(key)!r}, not "
                f"{config.get(key)!r}; give the same configuration, or another --out folder"
            )


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _load_adam(optimiser: torch.optim.Adam, tensors: Mapping[str, Tensor]) -> None:
    parameters: list[Tensor] = optimiser.param_groups[0]["params"]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".")
        like = parameters[int(index)]
        # The file knows no memory layouts; fused steps want each moment in its weight's.
        moment = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
        state.setdefault(int(index), {})[key] = moment
    whole = optimiser.state_dict()
    whole["state"] = state
    optimiser.load_state_dict(whole)
