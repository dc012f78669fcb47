"""How a model of functions is trained on subsets of coordinates: the same loop as any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from certes.diffusion.schedules import Schedule
from certes.function_space.autoencoder import DiffusionAutoencoder, pack
from certes.function_space.coordinates import Lattice, Points, subset
from certes.function_space.denoiser import FunctionDenoiser
from certes.function_space.preview import save_functions_grid
from certes.function_space.training_config import FunctionConfig
from certes.networks.denoiser import bounded_exp
from certes.training.noising import NoisyBatch
from certes.training.objectives import LIKELIHOOD_WEIGHT, Losses
from certes.training.recipe import Recipe
from certes.training.times import Drawn

Patches = Float[Tensor, "b c s s"]
Packed = Float[Tensor, "b channels l 1"]

_torch = cast(Any, torch)


class CoordinateMatching:
    """The mean squared error at the coordinates that were looked at, and, with a second half of
    outputs, the likelihood of the errors (their mean held fixed).

    Args:
        channels: of the functions.
    """

    moments = None

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def __call__(self, output: Packed, batch: NoisyBatch) -> Losses:
        """The losses of a batch."""
        output = output.float()
        squared = (output[:, : self.channels] - batch.target) ** 2
        simple = squared.mean(dim=(1, 2, 3))
        if output.shape[1] == self.channels:
            return Losses(simple, simple.detach(), torch.zeros_like(simple))
        variance = bounded_exp(output[:, self.channels :])
        cost = (squared.detach() / variance + variance.log()).mean(dim=(1, 2, 3)) / 2
        return Losses(simple + LIKELIHOOD_WEIGHT * cost, simple.detach(), cost.detach())

    def learn(self, t: Float[Tensor, " b"], simple: Float[Tensor, " b"]) -> None:
        """Nothing depends on the losses of earlier steps."""


class FunctionRecipe(Recipe[FunctionDenoiser]):
    """Models of functions.

    Args:
        config: what is trained.
    """

    def __init__(self, config: FunctionConfig) -> None:
        self._config = config
        self.lattice = Lattice(config.patch, config.patch)
        self.reading = config.reading()

    @property
    def config(self) -> FunctionConfig:
        return self._config

    @property
    def channels(self) -> int:
        """Of the functions."""
        return self._config.channels

    @property
    def schedule(self) -> Schedule:
        return self.reading.schedule

    def build(self) -> FunctionDenoiser:
        with _torch.random.fork_rng(devices=[]):
            _torch.manual_seed(self._config.seed)
            net = DiffusionAutoencoder(self._config.operator())
        cast(Any, net).to(memory_format=torch.channels_last)
        return FunctionDenoiser(net, self.reading)

    def objective(self, denoiser: FunctionDenoiser, device: torch.device) -> CoordinateMatching:
        return CoordinateMatching(self.channels)

    def noisy(
        self,
        denoiser: FunctionDenoiser,
        patches: Patches,
        drawn: Drawn,
        generator: torch.Generator,
        step: int,
    ) -> NoisyBatch:
        reading, count = self.reading, len(patches)
        white = torch.randn(patches.shape, generator=generator, device=generator.device)
        z0 = reading.normalised(patches)
        level = reading.level(drawn.t).to(z0)[:, None, None, None]
        deviation = reading.deviation(self.lattice).to(z0)
        mollified, noise = reading.mollifier(z0), reading.mollifier(white)
        ratio = level * deviation
        seen = reading.seen(mollified + level * noise, ratio)
        target = reading.target(z0, mollified, noise / deviation, ratio)
        points = self._subset(count, generator)
        clean = None
        if denoiser.net.encoder is not None:
            others = self._subset(count, generator)
            clean = (others.values(mollified), others)
        packed = pack((points.values(seen), points), clean)
        coded = torch.rand(count, generator=generator, device=generator.device)
        coded = (coded >= self._config.withheld).to(z0)
        told = torch.stack([reading.told(drawn.t).to(z0), coded], dim=1)
        wanted = points.values(target).transpose(1, 2)[..., None]
        return NoisyBatch(wanted, packed, wanted, told, drawn.t, drawn.weight)

    def _subset(self, count: int, generator: torch.Generator) -> Points:
        config = self._config
        return subset(self.lattice, count, config.share, generator, config.sequence)

    def show(
        self, denoiser: FunctionDenoiser, patches: Patches, out: Path, step: int
    ) -> UInt8[Tensor, "height width c"]:
        return save_functions_grid(denoiser, patches, out, step)
