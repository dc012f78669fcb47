"""The files of a model folder. No pickle is read unless the user passes that very file."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from certes.data.files import atomic_path
from certes.errors import ModelError
from certes.networks.config import UNetConfig
from certes.networks.unet import Network, UNet

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"

_safetensors = cast(Any, safetensors.torch)  # its path types are partly unknown
_DAMAGE = (
    SafetensorError,
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a model folder.

    Raises:
        ModelError: if it is missing or no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"model {path.parent}: {path.name} is missing") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"model {path.parent}: {path.name} is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise ModelError(f"model {path.parent}: {path.name} holds no JSON object")
    return cast(dict[str, Any], content)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a pickle that the user named (no code is run).

    Raises:
        ModelError: if it is missing, damaged or of another kind.
    """
    if not path.is_file():
        raise ModelError(f"model {path.parent}: {path.name} is missing")
    try:
        if path.suffix == ".safetensors":
            return _safetensors.load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGE as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(f"model: {path} is damaged or holds no weights ({reason})") from error
    if not isinstance(content, dict):
        raise ModelError(f"model: {path} holds no weights by name")
    return cast(dict[str, Tensor], content)


def read_header(path: Path) -> dict[str, str]:
    """The words in the header of a safetensors file.

    Raises:
        ModelError: if it is damaged.
    """
    try:
        with cast(Any, safe_open)(path, "pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: damaged ({error}); remove it to start again") from error


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file, with words in its header, atomically."""
    with atomic_path(path) as temporary:
        content = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        _safetensors.save_file(content, temporary, metadata=dict(header) if header else None)


def read_network(config: Mapping[str, Any], weights: Path, state: Mapping[str, Tensor]) -> UNet:
    """The network of a ``config.json``, filled with a state dict, in float32.

    Args:
        config: what says its shape.
        weights: where ``state`` is from.
        state: the parameters by name.

    Raises:
        ModelError: if names or shapes differ from what the configuration asks for.
    """
    with torch.device("meta"):  # half a billion random numbers would be drawn for nothing
        net = UNet(UNetConfig.from_dict(config))
    return filled(net, weights, state)


def filled(net: Network, weights: Path, state: Mapping[str, Tensor]) -> Network:
    """A network on the device ``meta``, filled with a state dict, in float32.

    Args:
        net: the network.
        weights: where ``state`` is from.
        state: the parameters by name.

    Raises:
        ModelError: if names or shapes differ from the network's.
    """
    wanted = net.state_dict()
    wrong = sorted(set(wanted) ^ set(state)) or [
        name for name in wanted if wanted[name].shape != state[name].shape
    ]
    if wrong:
        raise ModelError(
            f"model: {weights} does not fit its configuration (first difference: {wrong[0]})"
        )
    net.load_state_dict({name: value.float() for name, value in state.items()}, assign=True)
    return net
