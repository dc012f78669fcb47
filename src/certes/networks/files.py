"""The files of a model folder. No pickle is read unless the user passes that very file."""

from __future__ import annotations

import pickle
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from certes.data import files
from certes.data.files import move, naming, scratch_folder
from certes.errors import CertesError, ModelError
from certes.networks.config import UNetConfig
from certes.networks.unet import Network, UNet

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
CARD = "certes.json"

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


@contextmanager
def understood(source: str | Path) -> Generator[None, None, None]:
    """Whatever its files make go wrong inside the block is said in one line.

    They are JSON and numbers by anybody: values of any kind may be where others should, and the
    code that is built from them promises no set of exceptions. The cause stays chained.

    Raises:
        ModelError: naming the model and the reason.
    """
    try:
        yield
    except (CertesError, OSError):
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ModelError(
            f"model {source}: its files cannot be understood ({reason}); copy or train it again"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a model folder.

    Raises:
        ModelError: if it is missing or no JSON object.
    """
    try:
        content = files.read_json(path)
    except FileNotFoundError as error:
        raise ModelError(f"model {path.parent}: {path.name} is missing") from error
    except ValueError as error:
        raise ModelError(f"model {path.parent}: {path.name} is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise ModelError(f"model {path.parent}: {path.name} holds no JSON object")
    return cast(dict[str, Any], content)


def check_numbers(card: Mapping[str, Any], *positive: str, anywhere: tuple[str, ...] = ()) -> None:
    """Refuse a card whose numbers are none.

    Args:
        card: the content of ``certes.json``.
        positive: keys of numbers above 0.
        anywhere: keys of finite numbers.

    Raises:
        ModelError: naming the first that is something else.
    """
    for key in (*positive, *anywhere):
        value = card[key]
        number = type(value) in (int, float) and abs(value) < 1e12
        if not number or (key in positive and value <= 0):
            wanted = "a positive number" if key in positive else "a number"
            raise ModelError(f"model: its card says {key} = {value!r}, where {wanted} is wanted")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a pickle that the user named (no code is run).

    Raises:
        ModelError: if it is missing, damaged or of another kind.
    """
    if not path.is_file():
        raise ModelError(f"model {path.parent}: {path.name} is missing")
    try:
        if path.suffix == ".safetensors":
            # Mapped instead of read, each tensor would leave 64 bytes behind in this process, and
            # a file that another one shortens meanwhile would end it.
            return _finite(path, _safetensors.load_file(path, backend="pread"))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGE as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(f"model: {path} is damaged or holds no weights ({reason})") from error
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        raise ModelError(f"model: {path} holds no weights by name")
    return _finite(path, cast(dict[str, Tensor], content))


def _finite(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise ModelError(
                f"model: {path} is damaged ({name} holds values that are NaN or infinite); copy or "
                "train it again"
            )
    return tensors


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


@contextmanager
def whole_model(folder: Path, *optional: str) -> Generator[Path, None, None]:
    """Yield a hidden folder for the files of a model; at the end they replace those in `folder`.

    The card goes first and comes last: with one, a folder is whole. A disk that fills up leaves the
    model that was there.

    Args:
        folder: of the model.
        optional: files that are removed from it unless they are written.
    """
    with naming(folder, folder), scratch_folder(folder) as hidden:
        yield hidden
        files = {path.name: path for path in sorted(hidden.iterdir())}
        card = files.pop(CARD)
        for name in (CARD, *optional):
            if name not in files:
                (folder / name).unlink(missing_ok=True)
        move([*files.values(), card], folder)


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
