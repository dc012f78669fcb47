"""Training of denoisers of pictures: the unconditional models."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from certes.diffusion.parametrisation import Parametrisation
from certes.diffusion.schedules import Schedule, schedule_from_config
from certes.networks.denoiser import NetworkDenoiser
from certes.networks.unet import UNet, channels_last, initialise
from certes.training.config import RunConfig, TrainingConfig
from certes.training.noising import NoisyBatch, noisy_batch
from certes.training.objectives import Objective
from certes.training.preview import save_sample_grid
from certes.training.recipe import Recipe
from certes.training.times import Drawn

_torch = cast(Any, torch)  # some of its functions are typed in part only


class Unconditional(Recipe[NetworkDenoiser]):
    """Denoisers of pictures.

    Args:
        config: what is trained.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self._config = config

    @property
    def config(self) -> TrainingConfig:
        return self._config

    @property
    def channels(self) -> int:
        """Colour channels of the pictures."""
        return self.config.channels

    @property
    def schedule(self) -> Schedule:
        return schedule_from_config(self.config.schedule)

    def build(self) -> NetworkDenoiser:
        config = self.config
        return NetworkDenoiser(
            fresh_network(config),
            self.schedule,
            Parametrisation(config.prediction),
            config.center,
            config.scale,
            head=config.head,
        )

    def objective(self, denoiser: NetworkDenoiser, device: torch.device) -> Objective:
        return Objective(denoiser, self.config, device)

    def noisy(
        self,
        denoiser: NetworkDenoiser,
        patches: Float[Tensor, "b c s s"],
        drawn: Drawn,
        generator: torch.Generator,
        step: int,
    ) -> NoisyBatch:
        return noisy_batch(denoiser, patches, drawn, generator)

    def show(
        self, denoiser: NetworkDenoiser, patches: Float[Tensor, "b c s s"], out: Path, step: int
    ) -> UInt8[Tensor, "height width c"]:
        return save_sample_grid(denoiser, self.config.patch, out, step)


def fresh_network(config: RunConfig) -> UNet:
    """A network of the configuration's shape, initialised by its seed."""
    with _torch.random.fork_rng(devices=[]):
        _torch.manual_seed(config.seed)
        net = UNet(config.unet())
        initialise(net)
    return channels_last(net)
