"""What a run trains: the part that the loop leaves to each kind of model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from certes.diffusion.schedules import Schedule
from certes.training.config import RunConfig
from certes.training.levels import LevelMoments
from certes.training.noising import NoisyBatch
from certes.training.objectives import Losses
from certes.training.times import Drawn


class Trainable(Protocol):
    """A denoiser around a network."""

    @property
    def net(self) -> nn.Module:
        """The network."""
        ...


class Criterion(Protocol):
    """What is minimised."""

    @property
    def moments(self) -> LevelMoments | None:
        """What it learns of the noise levels on the way, if anything."""
        ...

    def __call__(self, output: Float[Tensor, "b c_out h w"], batch: NoisyBatch) -> Losses:
        """The losses of a batch."""
        ...

    def learn(self, t: Float[Tensor, " b"], simple: Float[Tensor, " b"]) -> None:
        """Learn from the squared errors of a step."""
        ...


Denoises = TypeVar("Denoises", bound=Trainable)


class Recipe(ABC, Generic[Denoises]):
    """A configuration, read as a kind of model."""

    @property
    @abstractmethod
    def config(self) -> RunConfig:
        """What is trained."""

    @property
    @abstractmethod
    def channels(self) -> int:
        """Channels of the training patches."""

    @property
    @abstractmethod
    def schedule(self) -> Schedule:
        """What the drawn times are times of."""

    @abstractmethod
    def build(self) -> Denoises:
        """A freshly initialised network, as the denoiser it is to become."""

    @abstractmethod
    def objective(self, denoiser: Denoises, device: torch.device) -> Criterion:
        """What is minimised.

        Raises:
            InputError: for settings that do not go together.
        """

    @abstractmethod
    def noisy(
        self,
        denoiser: Denoises,
        patches: Float[Tensor, "b c s s"],
        drawn: Drawn,
        generator: torch.Generator,
        step: int,
    ) -> NoisyBatch:
        """What the network sees in a step, and what it should answer.

        Args:
            denoiser: knows the process and what its network shall predict.
            patches: training patches, image units, on the training device.
            drawn: their times.
            generator: of all that is random, on the same device.
            step: number of the step.
        """

    @abstractmethod
    def show(
        self, denoiser: Denoises, patches: Float[Tensor, "b c s s"], out: Path, step: int
    ) -> UInt8[Tensor, "height width c"]:
        """Write a picture of what the network can do by now into a folder; returns it.

        Args:
            denoiser: the network so far.
            patches: some training patches.
            out: the folder.
            step: names the file.
        """
