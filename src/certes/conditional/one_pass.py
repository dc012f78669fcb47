"""Fine-tuning a conditional model into bounds in one pass (N-Conffusion), its folder, its calls.

Horwitz and Hoshen 2022 (arXiv:2211.09795): quantile losses for the ends, a squared one for the
estimate. The bounds are raw; ``certes.calibrate`` gives them their guarantee.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from certes.conditional.model import ConditionalModel
from certes.conditional.restore import condition_label
from certes.conditional.tasks import ConditionalTask, checked_conditions, task_from_config
from certes.data.files import write_json
from certes.data.mosaic import mosaic
from certes.data.pictures import Picture as File
from certes.data.pictures import write_picture
from certes.diffusion.schedules import VE, Schedule
from certes.errors import InputError, ModelError
from certes.intervals.bounds import Bounds, Provenance
from certes.networks.bounds import HEADS, KIND, BoundsNetwork, pinball, three_heads
from certes.networks.conditional import ConditionalNetworkDenoiser, block_from_config
from certes.networks.files import CONFIG, WEIGHTS, read_json, read_network, read_tensors
from certes.networks.model import CARD, compute_device, digest, locate, save_network
from certes.networks.unet import channels_last
from certes.restoration.operators.base import as_tensor
from certes.training.config import RunConfig
from certes.training.levels import LevelMoments
from certes.training.noising import NoisyBatch
from certes.training.objectives import Losses
from certes.training.recipe import Recipe
from certes.training.times import Drawn

SAMPLER = "n-conffusion"
_ASKED = ("name", "kind", "task", "label", "x", "y", "sigma_x", "alpha")

Patches = Float[Tensor, "b c s s"]
Picture = Float[Tensor, "b c h w"]


@dataclass(frozen=True, kw_only=True)
class OnePassConfig(RunConfig):
    """One fine-tuning run; what is not here is :class:`RunConfig`'s.

    Args:
        alpha: share of pixels that the bounds aim to miss, half of it on either side.

    Raises:
        InputError: for an alpha that is no share.
    """

    alpha: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.alpha < 1:
            raise InputError(f"alpha: {self.alpha}; give a share of pixels in (0, 1)")


def fine_tuning(model: ConditionalModel, alpha: float = 0.1, **run: Any) -> OnePassConfig:
    """The configuration that fine-tunes a model.

    Args:
        model: a trained conditional model.
        alpha: see :class:`OnePassConfig`.
        run: further fields of :class:`RunConfig` (steps, batch, patch ...).
    """
    network = _network_of(model).net.config.to_dict()
    network["out_channels"] = HEADS * model.channels
    return OnePassConfig(network=json.loads(json.dumps(network)), alpha=alpha, **run)


class OnePass(Recipe[BoundsNetwork]):
    """N-Conffusion. Patches are those that the conditional model is trained on.

    Args:
        config: what is trained.
        model: where it starts.
    """

    def __init__(self, config: OnePassConfig, model: ConditionalModel) -> None:
        self._config, self.model = config, model
        self.denoiser = _network_of(model)

    @property
    def config(self) -> OnePassConfig:
        return self._config

    @property
    def channels(self) -> int:
        """Of the patches."""
        return self.model.task.patch_channels(self.model.channels)

    @property
    def schedule(self) -> Schedule:
        """No time is trained but one; a schedule of drawn times that nobody looks at."""
        return VE(0.01, 1.0)

    def build(self) -> BoundsNetwork:
        made = three_heads(self.denoiser, float(self.model.estimator.x.noise_level(1.0)))
        channels_last(made.net.cpu()).train()
        return made

    def objective(self, denoiser: BoundsNetwork, device: torch.device) -> QuantileLoss:
        return QuantileLoss(denoiser, self._config.alpha)

    def noisy(
        self,
        denoiser: BoundsNetwork,
        patches: Patches,
        drawn: Drawn,
        generator: torch.Generator,
        step: int,
    ) -> NoisyBatch:
        """Pictures and conditions; nothing is noised."""
        x, y = self._pairs(patches, generator)
        seen, told = denoiser.inputs(y)
        return NoisyBatch(x, seen, x, told, drawn.t, torch.ones_like(drawn.t))

    def show(
        self, denoiser: BoundsNetwork, patches: Patches, out: Path, step: int
    ) -> UInt8[Tensor, "height width c"]:
        """Lower ends, estimates, upper ends and truths, a row each pair."""
        x, y = self._pairs(patches, torch.Generator(patches.device).manual_seed(0))
        rows = torch.cat([denoiser(y), x[:, None]], dim=1).flatten(0, 1)
        grid = mosaic(rows.cpu().clamp(0, 1), HEADS + 1)
        write_picture(out / f"samples-{step}.png", grid, File("samples", grid, None, "uint8"))
        return (grid * 255).round().byte().movedim(0, -1)

    def _pairs(self, patches: Patches, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        task = self.model.task
        x, y = task.split(patches, self.model.channels, generator)
        return x, task.shown(y)


class QuantileLoss:
    """Quantile losses of the ends plus the squared error of the estimate, in network units.

    Args:
        network: how the answer is read.
        alpha: share of pixels that the ends aim to miss.
    """

    moments: LevelMoments | None = None

    def __init__(self, network: BoundsNetwork, alpha: float) -> None:
        self.network, self.alpha = network, alpha

    def __call__(self, output: Float[Tensor, "b c_out h w"], batch: NoisyBatch) -> Losses:
        """The losses of a batch."""
        normalised = self.network.x.normalised
        truth = normalised(batch.target)
        lower, estimate, upper = normalised(self.network.read(output.float())).unbind(1)
        squared = (estimate - truth) ** 2
        ends = pinball(lower, truth, self.alpha / 2) + pinball(upper, truth, 1 - self.alpha / 2)
        each, simple = (v.mean(dim=(1, 2, 3)) for v in (ends + squared, squared.detach()))
        return Losses(each, simple, ends.detach().mean(dim=(1, 2, 3)))

    def learn(self, t: Float[Tensor, " b"], simple: Float[Tensor, " b"]) -> None:
        """Nothing: there are no levels."""


class OnePassModel:
    """Raw bounds for conditions in users' form.

    Args:
        name: how people call it.
        network: its network.
        task: what its conditions are.
        alpha: share of pixels that the bounds aim to miss.
        label: the task in words.
        digest: hash of everything that its answers depend on.
    """

    def __init__(
        self,
        name: str,
        network: BoundsNetwork,
        task: ConditionalTask,
        alpha: float,
        label: str,
        digest: str,
    ) -> None:
        self.name, self.network, self.task, self.alpha = name, network, task, alpha
        self.label, self.hash = label, digest

    def __call__(self, y: Float[Tensor, "b ..."] | npt.NDArray[Any]) -> Bounds:
        """Bounds cut to [0, 1], on the CPU; ends that cross the estimate are moved to it.

        Args:
            y: conditions, in the form that the task tells (:mod:`certes.conditional.tasks`).

        Raises:
            InputError: for conditions that the task cannot have.
        """
        shown = self._shown(as_tensor(y)).to(self.network.device)
        parts = self.network(shown).clamp(0, 1).float().cpu().unbind(1)
        lower, estimate, upper = (part.contiguous() for part in parts)
        made = Provenance(self.hash, self.label, None, SAMPLER, 1, None, self.alpha)
        return Bounds.ordered(lower, estimate, upper, made)

    def _shown(self, y: Tensor) -> Picture:
        """Conditions as the network sees them."""
        shown, wanted = checked_conditions(self.task, y), self.network.y.channels
        if shown.shape[1] != wanted:
            raise InputError(
                f"y: conditions of shape {tuple(y.shape)} are seen as {shown.shape[1]} "
                f"channel(s); {self.name} sees {wanted}"
            )
        return shown


def save_bounds(
    folder: Path,
    network: BoundsNetwork,
    model: ConditionalModel,
    alpha: float,
    card: dict[str, Any],
) -> None:
    """Write a model folder of the kind ``bounds``.

    Args:
        folder: where; a model that is there is replaced.
        network: the fine-tuned network.
        model: what it was fine-tuned from.
        alpha: share of pixels that the bounds aim to miss.
        card: ``name`` and whatever else is known.
    """
    save_network(folder, network.net, torch.float32)
    reading = {
        "kind": KIND,
        "task": model.task.to_config(),
        "label": condition_label(model),
        "x": network.x.to_config(),
        "y": network.y.to_config(),
        "sigma_x": network.sigma_x,
        "alpha": alpha,
        "from": model.hash,
    }
    write_json(folder / CARD, {**card, **reading})


def load_bounds(source: str | Path, device: str | torch.device | None = None) -> OnePassModel:
    """Load a model that answers with bounds.

    Raises:
        ModelError: if there is no such model or device, or the model cannot be read.
    """
    place = compute_device(device)
    folder, _ = locate(source)
    card = read_json(folder / CARD)
    if card.get("kind") != KIND:
        raise ModelError(f"model {folder}: kind {card.get('kind')!r}; a {KIND!r} one is wanted")
    missing = [key for key in _ASKED if key not in card]
    if missing:
        raise ModelError(f"model {folder}: {CARD} does not say {', '.join(missing)}")
    weights = folder / WEIGHTS
    net = read_network(read_json(folder / CONFIG), weights, read_tensors(weights))
    known = {key: card[key] for key in ("kind", "task", "x", "y", "sigma_x", "alpha")}
    mark = digest({**known, "config": net.config.differences()}, dict(net.state_dict()))
    channels_last(net.to(place)).eval()
    network = BoundsNetwork(
        net, block_from_config(card["x"]), block_from_config(card["y"]), card["sigma_x"]
    )
    task = task_from_config(card["task"])
    return OnePassModel(card["name"], network, task, card["alpha"], card["label"], mark)


def _network_of(model: ConditionalModel) -> ConditionalNetworkDenoiser:
    if not isinstance(model.denoiser, ConditionalNetworkDenoiser):
        raise ModelError(f"model: {model.name} is no network, and cannot be fine-tuned")
    return model.denoiser
