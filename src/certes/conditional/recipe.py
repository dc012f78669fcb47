"""How a conditional model is trained: the same loop as any other."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from certes.conditional.config import ConditionalConfig
from certes.conditional.objective import NoisyPairs, ScoreMatching, noisy_pairs
from certes.conditional.preview import save_pairs_grid
from certes.diffusion.schedules import Schedule
from certes.networks.conditional import ConditionalNetworkDenoiser
from certes.training.recipe import Recipe
from certes.training.times import Drawn
from certes.training.unconditional import fresh_network

Patches = Float[Tensor, "b c s s"]


class Conditional(Recipe[ConditionalNetworkDenoiser]):
    """Conditional models. Patches are pictures, or pictures and conditions, x's channels first.

    Args:
        config: what is trained.
    """

    def __init__(self, config: ConditionalConfig) -> None:
        self._config = config
        self.task, self.estimator = config.made_task(), config.made_estimator()
        self.x, self.y = config.blocks()

    @property
    def config(self) -> ConditionalConfig:
        return self._config

    @property
    def channels(self) -> int:
        """Of the patches."""
        return self.task.patch_channels(self.x.channels)

    @property
    def schedule(self) -> Schedule:
        return self.estimator.x

    def build(self) -> ConditionalNetworkDenoiser:
        return ConditionalNetworkDenoiser(fresh_network(self._config), self.x, self.y)

    def objective(
        self, denoiser: ConditionalNetworkDenoiser, device: torch.device
    ) -> ScoreMatching:
        return ScoreMatching(denoiser)

    def pairs(self, patches: Patches, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Pictures, and conditions as the network sees them.

        Args:
            patches: training patches, image units.
            generator: of what is random in measuring them.
        """
        x, y = self.task.split(patches, self.x.channels, generator)
        return x, self.task.shown(y)

    def noisy(
        self,
        denoiser: ConditionalNetworkDenoiser,
        patches: Patches,
        drawn: Drawn,
        generator: torch.Generator,
        step: int,
    ) -> NoisyPairs:
        pair = self.pairs(patches, generator)
        return noisy_pairs(denoiser, self.estimator.at(step), pair, drawn, generator)

    def show(
        self, denoiser: ConditionalNetworkDenoiser, patches: Patches, out: Path, step: int
    ) -> UInt8[Tensor, "height width c"]:
        generator = torch.Generator(patches.device).manual_seed(0)
        x, y = self.pairs(patches, generator)
        return save_pairs_grid(denoiser, self.estimator, x, y, out, step)
