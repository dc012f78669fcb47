"""Conditional models: a denoiser of pairs with its task, its estimator, a name, a hash and a card.

Their folders are those of other models, of the kind ``conditional``: ``config.json``, weights and
``certes.json``, which also says the task, the estimator and the units of both blocks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from certes.conditional.estimators import Estimator, estimator_from_config
from certes.conditional.tasks import ConditionalTask, task_from_config
from certes.data.files import write_json
from certes.diffusion.denoiser import ConditionalDenoiser, JointlyDenoised
from certes.errors import ModelError
from certes.networks.conditional import ConditionalNetworkDenoiser, block_from_config
from certes.networks.denoiser import inference_dtype
from certes.networks.files import (
    CONFIG,
    WEIGHTS,
    read_json,
    read_network,
    read_tensors,
    understood,
    whole_model,
)
from certes.networks.model import CARD, compute_device, digest, locate, save_network
from certes.networks.unet import channels_last

KIND = "conditional"
_ASKED = ("name", "kind", "task", "estimator", "x", "y")

Picture = Float[Tensor, "b c h w"]
Scalars = Float[Tensor, " b"]


class ConditionalModel(ConditionalDenoiser):
    """Anything that answers conditions with pictures, and what is known of it.

    Args:
        name: how people call it.
        denoiser: of pairs: a network, or an exact one.
        task: what its conditions are.
        estimator: how its blocks diffuse.
        channels: of its pictures.
        card: the content of ``certes.json``.
        digest: hash of everything that its answers depend on.
    """

    def __init__(
        self,
        name: str,
        denoiser: ConditionalDenoiser,
        task: ConditionalTask,
        estimator: Estimator,
        channels: int,
        card: dict[str, Any],
        digest: str,
    ) -> None:
        self.name, self.denoiser = name, denoiser
        self.task, self.estimator, self.channels = task, estimator, channels
        self.card, self.hash = card, digest
        self.confined = denoiser.confined

    def __call__(
        self, x: Picture, sigma_x: Scalars, y: Float[Tensor, " b *out"], sigma_y: Scalars
    ) -> JointlyDenoised:
        return self.denoiser(x, sigma_x, y, sigma_y)

    @property
    def summary(self) -> str:
        """What it does, in words."""
        return summary_of(self.task, self.estimator)

    @property
    def device(self) -> torch.device | None:
        """Where it computes; ``None``: where its pictures are."""
        denoiser = self.denoiser
        return denoiser.device if isinstance(denoiser, ConditionalNetworkDenoiser) else None


def save_conditional(
    folder: Path,
    denoiser: ConditionalNetworkDenoiser,
    task: ConditionalTask,
    estimator: Estimator,
    card: dict[str, Any],
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    """Write a model folder, whole or not at all.

    Args:
        folder: where; a model that is there is replaced.
        denoiser: the network and its blocks.
        task: what its conditions are.
        estimator: how its blocks diffuse.
        card: ``name`` and whatever else is known.
        dtype: of the stored weights.
    """
    with whole_model(folder) as hidden:
        save_network(hidden, denoiser.net, dtype)
        write_json(hidden / CARD, {**card, **_reading(denoiser, task, estimator)})


def load_conditional(
    source: str | Path,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> ConditionalModel:
    """Load a conditional model.

    Args:
        source: a bundled name or a model folder.
        device: where it shall compute; default: the first GPU, else the CPU.
        dtype: the network's precision; default: bfloat16 where the machine computes in it.

    Raises:
        ModelError: if there is no such model or device, or the model cannot be read.
    """
    place = compute_device(device)
    with understood(source):
        return _read(*locate(source), place, dtype or inference_dtype(place))


def _read(
    folder: Path, weights: Path | None, place: torch.device, dtype: torch.dtype
) -> ConditionalModel:
    card = read_json(folder / CARD)
    missing = [key for key in _ASKED if key not in card]
    if missing or card["kind"] != KIND:
        found = f"does not say {', '.join(missing)}" if missing else f"kind {card['kind']!r}"
        raise ModelError(f"model {folder}: {CARD} {found}; a {KIND!r} model is wanted here")
    path = weights or folder / WEIGHTS
    net = read_network(read_json(folder / CONFIG), path, read_tensors(path))
    denoiser = ConditionalNetworkDenoiser(
        net, block_from_config(card["x"]), block_from_config(card["y"])
    )
    task, estimator = task_from_config(card["task"]), estimator_from_config(card["estimator"])
    mark = digest_of(denoiser, task, estimator)
    channels_last(net.to(device=place, dtype=dtype)).eval()
    return ConditionalModel(
        str(card["name"]), denoiser, task, estimator, denoiser.x.channels, card, mark
    )


def digest_of(
    denoiser: ConditionalNetworkDenoiser, task: ConditionalTask, estimator: Estimator
) -> str:
    """Hash of weights, configuration, task and estimator: equal digests answer equally."""
    reading = _reading(denoiser, task, estimator)
    description = {"config": denoiser.net.config.differences(), **reading}
    return digest(description, dict(denoiser.net.state_dict()))


def summary_of(task: ConditionalTask, estimator: Estimator) -> str:
    """Task and estimator in words, for model cards."""
    if not estimator.predicts_y:
        name = "CDE: conditions without noise"
    elif estimator.curriculum is not None:
        name = "VS-CMDE: conditions that slowed down in training"
    elif estimator.y == estimator.x:
        name = "CDiffE: conditions as noisy as pictures"
    else:
        name = "CMDE: conditions noisy at a speed of their own"
    return f"{task.kind}, by {name}"


def _reading(
    denoiser: ConditionalNetworkDenoiser, task: ConditionalTask, estimator: Estimator
) -> dict[str, Any]:
    """How conditions become network inputs and its outputs estimates."""
    return {
        "kind": KIND,
        "task": task.to_config(),
        "estimator": estimator.to_config(),
        "x": denoiser.x.to_config(),
        "y": denoiser.y.to_config(),
        "channels": denoiser.x.channels,
    }
