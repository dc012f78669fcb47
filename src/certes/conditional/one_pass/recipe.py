"""How bounds in one pass are learned: the loop of any other model, without noise or times."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from certes.conditional.one_pass.config import OnePassConfig
from certes.data.mosaic import mosaic
from certes.data.pictures import Picture as File
from certes.data.pictures import write_picture
from certes.diffusion.schedules import VE, Schedule
from certes.networks.one_pass import OnePassNetwork, stacked
from certes.networks.unet import channels_last
from certes.training.levels import LevelMoments
from certes.training.noising import NoisyBatch
from certes.training.objectives import Losses
from certes.training.recipe import Recipe
from certes.training.times import Drawn

Patches = Float[Tensor, "b c s s"]

_COLUMNS = 4


class OnePass(Recipe[OnePassNetwork]):
    """Learning to answer with bounds.

    Patches are those that a conditional model of the task is trained on; for a head that learns
    from samples they are those of :class:`certes.conditional.one_pass.sampled.SampledBounds`.

    Args:
        config: what is trained.
        start: the network that it starts as.
    """

    def __init__(self, config: OnePassConfig, start: OnePassNetwork) -> None:
        self._config, self.start = config, start
        self.task = config.made_task()

    @property
    def config(self) -> OnePassConfig:
        return self._config

    @property
    def channels(self) -> int:
        """Of the patches."""
        picture = self.start.front.x.channels
        if self.start.head.targets == 1:
            return self.task.patch_channels(picture)
        return picture + self.task.channels(picture) + self.start.head.targets * picture

    @property
    def schedule(self) -> Schedule:
        """No time is trained but one; a schedule of drawn times that nobody looks at."""
        return VE(0.01, 1.0)

    def build(self) -> OnePassNetwork:
        net = channels_last(deepcopy(self.start.net).cpu()).train()
        return OnePassNetwork(net, self.start.front, self.start.head)

    def objective(self, denoiser: OnePassNetwork, device: torch.device) -> HeadLoss:
        return HeadLoss(denoiser)

    def noisy(
        self,
        denoiser: OnePassNetwork,
        patches: Patches,
        drawn: Drawn,
        generator: torch.Generator,
        step: int,
    ) -> NoisyBatch:
        """Conditions and what is to be learned from them; nothing is noised."""
        x, y, target = self.parts(patches, generator)
        seen, told = denoiser.front.inputs(y)
        return NoisyBatch(x, seen, target, told, drawn.t, torch.ones_like(drawn.t))

    def parts(
        self, patches: Patches, generator: torch.Generator
    ) -> tuple[Patches, Patches, Patches]:
        """Pictures, conditions as the network sees them, and targets, image units."""
        channels = self.start.front.x.channels
        if self.start.head.targets == 1:
            x, y = self.task.split(patches, channels, generator)
            return x, self.task.shown(y), x
        rest = channels + self.task.channels(channels)
        return patches[:, :channels], patches[:, channels:rest], patches[:, rest:]

    def show(
        self, denoiser: OnePassNetwork, patches: Patches, out: Path, step: int
    ) -> UInt8[Tensor, "height width c"]:
        """Lower ends, estimates, upper ends and truths, a row each pair."""
        x, y, _ = self.parts(patches, torch.Generator(patches.device).manual_seed(0))
        rows = torch.cat([denoiser(y), x[:, None]], dim=1).flatten(0, 1)
        grid = mosaic(rows.cpu().clamp(0, 1), _COLUMNS)
        write_picture(out / f"samples-{step}.png", grid, File("samples", grid, None, "uint8"))
        return (grid * 255).round().byte().movedim(0, -1)


class HeadLoss:
    """What the head minimises, in network units.

    Args:
        network: how the answer is read.
    """

    moments: LevelMoments | None = None

    def __init__(self, network: OnePassNetwork) -> None:
        self.network = network

    def __call__(self, output: Float[Tensor, "b c_out h w"], batch: NoisyBatch) -> Losses:
        """The losses of a batch; the squared error is that of the estimate from the picture."""
        network, x = self.network, self.network.front.x
        answer, base = network.split(output.float()), network.front.base(batch.x_t)
        target = stacked(x.normalised(batch.target), network.head.targets)
        each = network.head.loss(answer, base, target).mean(dim=(1, 2, 3))
        estimate = network.head.read(answer.detach(), base)[:, 1]
        squared = (x.normalised(estimate) - x.normalised(batch.z0)).square().mean(dim=(1, 2, 3))
        return Losses(each, squared, torch.zeros_like(squared))

    def learn(self, t: Float[Tensor, " b"], simple: Float[Tensor, " b"]) -> None:
        """Nothing: there are no levels."""
