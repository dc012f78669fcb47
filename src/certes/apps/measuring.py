"""How true pictures become what is restored, by an operator or as a model's conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from certes.apps.asking import GivenModel, check_settled, is_conditional, task_options
from certes.apps.conditions import ConditionReader
from certes.apps.experiment import Experiment, Measuring, Observation, centre, true_pictures
from certes.apps.options import Asked, SamplingOptions
from certes.apps.origins import Given, Measured
from certes.apps.restorer import load_condition_restorer, load_restorer
from certes.apps.tasks import Task, make_task, noise_level
from certes.conditional.tasks import Paired
from certes.data.pictures import Picture, find_pictures, read_picture
from certes.diffusion.noise import stream_seeds
from certes.errors import InputError
from certes.restoration.degradations import degrade
from certes.restoration.operators import Operator


@dataclass(frozen=True)
class ByOperator(Measuring[Measured]):
    """True pictures, degraded.

    Args:
        task: what is measured; random masks differ from picture to picture.
        noise: standard deviation, image units.
        seed: of noise and order; each picture has its own stream.
    """

    task: Task
    noise: float
    seed: int

    @property
    def name(self) -> str:
        return self.task.name

    @property
    def nominal(self) -> Measured:
        return Measured(self.task.operator(self.task.nominal, 0), self.noise)

    def observe(self, picture: Picture, index: int) -> Observation[Measured]:
        truth = picture.pixels[None]
        H, y = degraded(truth, self.task, self.noise, self.seed, index)
        return Observation(truth, y, Measured(H, self.noise))


@dataclass(frozen=True)
class AsConditions(Measuring[Given]):
    """True pictures and conditions of a model.

    Args:
        model: whose conditions.
    """

    model: GivenModel

    @property
    def name(self) -> str:
        return self.model.task.kind

    @property
    def nominal(self) -> Given:
        return Given(self.model)


@dataclass(frozen=True)
class ByTraining(AsConditions):
    """True pictures, made conditions of as they were in training.

    Args:
        seed: of what is random in them; each picture has its own stream.
    """

    seed: int

    def observe(self, picture: Picture, index: int) -> Observation[Given]:
        truth = checked_truth(picture, self.model)[None]
        generator = torch.Generator().manual_seed(_stream(self.seed, index))
        return Observation(truth, self.model.task.measure(truth, generator), self.nominal)


@dataclass(frozen=True)
class ByPartner(AsConditions):
    """True pictures and the conditions that came with them, in files of the same names.

    Args:
        conditions: their folder.
    """

    conditions: Path

    def read(self, data: Path, crop: int) -> list[Picture]:
        """Stacks of both, the channels of the true picture first, so that they are cut alike."""
        partners = {path.stem: path for path in find_pictures([self.conditions])}
        reader = ConditionReader(self.model)
        return [centre(self._stacked(path, partners, reader), crop) for path in true_pictures(data)]

    def observe(self, picture: Picture, index: int) -> Observation[Given]:
        stack = picture.pixels[None]
        channels = self.model.channels
        return Observation(stack[:, :channels], stack[:, channels:], self.nominal)

    def _stacked(
        self, path: Path, partners: Mapping[str, Path], reader: ConditionReader
    ) -> Picture:
        picture = read_picture(path)
        truth = checked_truth(picture, self.model)
        if path.stem not in partners:
            raise InputError(
                f"conditions: {self.conditions} holds no picture named {path.stem}; add it, or "
                f"leave {path} out"
            )
        y = reader(partners[path.stem]).y[0]
        if y.shape[1:] != truth.shape[1:]:
            raise InputError(
                f"{partners[path.stem]}: {y.shape[2]} x {y.shape[1]} pixels, but {path} has "
                f"{truth.shape[2]} x {truth.shape[1]}: the pictures of a pair are of one size"
            )
        return replace(picture, pixels=torch.cat([truth, y]), alpha=None)


def plan_experiment(asked: Asked, sampling: SamplingOptions) -> Experiment[Any]:
    """What a command that is given true pictures does with them.

    Raises: CertesError for a model that cannot be had, or options that make no sense for it.
    """
    if is_conditional(sampling.model):
        return _given(asked, sampling)
    task = make_task(task_options(asked, sampling.model), sampling.seed)
    level = noise_level(task, None if asked.noise is None else float(asked.noise))
    return Experiment(ByOperator(task, level, sampling.seed), load_restorer(sampling))


def _given(asked: Asked, sampling: SamplingOptions) -> Experiment[Given]:
    restorer = load_condition_restorer(sampling)
    model, conditions = restorer.model, asked.conditions
    paired = isinstance(model.task, Paired)
    check_settled(asked, sampling, model, ("conditions",) if paired else ())
    if not paired:
        return Experiment(ByTraining(model, sampling.seed), restorer)
    if conditions is None or not conditions.is_dir():
        found = "none given" if conditions is None else f"{conditions} is no folder"
        raise InputError(
            f"conditions: {found}; {model.name} is a conditional model for {model.task.kind}: give "
            "--conditions DIR, with one of the same name for each picture in --data"
        )
    return Experiment(ByPartner(model, conditions), restorer)


def checked_truth(picture: Picture, model: GivenModel) -> Float[Tensor, "c h w"]:
    """The pixels of a true picture that a model could restore.

    Raises: InputError for other channels than the model's.
    """
    if len(picture.pixels) != model.channels:
        raise InputError(
            f"{picture.name}: {len(picture.pixels)} colour channel(s), {model.name} restores "
            f"{model.channels}: convert the picture, or give another --model"
        )
    return picture.pixels


def degraded(
    truth: Float[Tensor, "b c h w"], task: Task, noise: float, seed: int, index: int
) -> tuple[Operator, Float[Tensor, " b *out"]]:
    """The operator for picture number `index`, and the measurement with noise of its own."""
    channels, height, width = truth.shape[1:]
    H = task.operator((channels, height, width), index)
    return H, degrade(truth, H, noise, _stream(seed, index))


def _stream(seed: int, index: int) -> int:
    (stream,) = stream_seeds(seed, [f"picture/{index}"])
    return stream
