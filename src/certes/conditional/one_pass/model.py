"""Models that answer with bounds: their calls, their folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from certes.conditional.one_pass.config import METHODS
from certes.conditional.one_pass.recipe import OnePass
from certes.conditional.restore import label_of
from certes.conditional.tasks import ConditionalTask, checked_conditions, task_from_config
from certes.data.files import write_json
from certes.errors import InputError, ModelError
from certes.intervals.bounds import Bounds, Provenance
from certes.networks.conditional import block_from_config
from certes.networks.files import (
    CONFIG,
    WEIGHTS,
    check_numbers,
    read_json,
    read_network,
    read_tensors,
    understood,
    whole_model,
)
from certes.networks.heads import head_named
from certes.networks.model import CARD, compute_device, digest, locate, save_network
from certes.networks.one_pass import KIND, OnePassNetwork, front_from_config
from certes.networks.unet import channels_last

_ASKED = ("name", "kind", "method", "task", "front", "head", "alpha")
_PICTURES = 64  # answered together

Picture = Float[Tensor, "b c h w"]


class OnePassModel:
    """Raw bounds for conditions in users' form, in one network call a picture.

    Args:
        name: how people call it.
        network: its network.
        task: what its conditions are.
        method: how it was made; see :data:`certes.conditional.one_pass.config.METHODS`.
        card: the content of ``certes.json``.
        digest: hash of everything that its answers depend on.
    """

    def __init__(
        self,
        name: str,
        network: OnePassNetwork,
        task: ConditionalTask,
        method: str,
        card: dict[str, Any],
        digest: str,
    ) -> None:
        self.name, self.network, self.task, self.method = name, network, task, method
        self.card, self.hash = card, digest

    @property
    def channels(self) -> int:
        """Of its pictures."""
        return self.network.front.x.channels

    @property
    def provenance(self) -> Provenance:
        """What its bounds say of themselves."""
        alpha = self.network.head.alpha
        return Provenance(self.hash, label_of(self.task), None, self.method, 1, None, alpha)

    def __call__(self, y: Float[Tensor, "b ..."] | npt.NDArray[Any]) -> Bounds:
        """Bounds cut to [0, 1], on the CPU; ends that cross the estimate are moved to it.

        Args:
            y: conditions, in the form that the task tells (:mod:`certes.conditional.tasks`).

        Raises:
            InputError: for conditions that the task cannot have.
            ModelError: if the network is in training mode.
        """
        shown = self._shown(torch.as_tensor(y)).to(self.network.device)
        starts = range(0, len(shown), _PICTURES)
        parts = torch.cat([self.network(shown[i : i + _PICTURES]).cpu() for i in starts])
        lower, estimate, upper = parts.clamp(0, 1).float().unbind(1)
        return Bounds.ordered(
            lower.contiguous(), estimate.contiguous(), upper.contiguous(), self.provenance
        )

    def _shown(self, y: Tensor) -> Picture:
        """Conditions as the network sees them."""
        shown, wanted = checked_conditions(self.task, y), self.network.front.sees
        if shown.shape[1] != wanted:
            raise InputError(
                f"y: conditions of shape {tuple(y.shape)} are seen as {shown.shape[1]} "
                f"channel(s); {self.name} sees {wanted}"
            )
        return shown


def save_one_pass(
    folder: Path, network: OnePassNetwork, recipe: OnePass, card: dict[str, Any]
) -> None:
    """Write a model folder of the kind ``bounds``.

    Args:
        folder: where; a model that is there is replaced.
        network: the trained network.
        recipe: how it was trained.
        card: ``name`` and whatever else is known.
    """
    with whole_model(folder) as hidden:
        save_network(hidden, network.net, torch.float32)
        write_json(hidden / CARD, {**card, **_reading(network, recipe.task, recipe.config.method)})


def one_pass_model(network: OnePassNetwork, recipe: OnePass, name: str) -> OnePassModel:
    """A trained network as users have it, without a folder."""
    mark = _digest(network, recipe.task, recipe.config.method)
    return OnePassModel(name, network, recipe.task, recipe.config.method, {}, mark)


def load_one_pass(source: str | Path, device: str | torch.device | None = None) -> OnePassModel:
    """Load a model that answers with bounds.

    Raises:
        ModelError: if there is no such model or device, or the model cannot be read.
    """
    place = compute_device(device)
    with understood(source):
        return _read(locate(source)[0], place)


def _read(folder: Path, place: torch.device) -> OnePassModel:
    card = read_json(folder / CARD)
    if card.get("kind") != KIND:
        raise ModelError(f"model {folder}: kind {card.get('kind')!r}; a {KIND!r} one is wanted")
    missing = [key for key in _ASKED if key not in card]
    if missing:
        raise ModelError(f"model {folder}: {CARD} does not say {', '.join(missing)}")
    if card["method"] not in METHODS:
        raise ModelError(
            f"model {folder}: method {card['method']!r}; this version knows {', '.join(METHODS)}"
        )
    weights = folder / WEIGHTS
    net = read_network(read_json(folder / CONFIG), weights, read_tensors(weights))
    front = front_from_config(card["front"])
    channels_last(net.to(place)).eval()
    check_numbers(card, "alpha")
    head = head_named(card["head"], card["alpha"], block_from_config(card["front"]["x"]))
    network, task = OnePassNetwork(net, front, head), task_from_config(card["task"])
    mark = _digest(network, task, card["method"])
    return OnePassModel(str(card["name"]), network, task, card["method"], card, mark)


def _reading(network: OnePassNetwork, task: ConditionalTask, method: str) -> dict[str, Any]:
    """How conditions become network inputs and its outputs bounds."""
    return {
        "kind": KIND,
        "method": method,
        "task": task.to_config(),
        "front": network.front.to_config(),
        "head": network.head.kind,
        "alpha": network.head.alpha,
        "channels": network.front.x.channels,
    }


def _digest(network: OnePassNetwork, task: ConditionalTask, method: str) -> str:
    described = {**_reading(network, task, method), "config": network.net.config.differences()}
    return digest(described, dict(network.net.state_dict()))
