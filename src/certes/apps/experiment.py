"""True pictures, degraded and restored: what calibrate, evaluate, verify and demo share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from certes.apps.console import progress
from certes.apps.restorer import Restoration, Restorer
from certes.apps.tasks import Task
from certes.data.pictures import Picture, find_pictures, read_picture
from certes.diffusion.noise import stream_seeds
from certes.errors import InputError
from certes.intervals.bounds import Bounds
from certes.restoration.degradations import degrade
from certes.restoration.operators import Operator


@dataclass(frozen=True)
class Trial:
    """One true picture and what came of it."""

    name: str
    truth: Float[Tensor, "1 c h w"]
    operator: Operator
    y: Float[Tensor, "1 ..."]
    restoration: Restoration


@dataclass(frozen=True)
class Experiment:
    """Degrade and restore.

    Args:
        task: what is measured; random masks differ from picture to picture.
        noise: standard deviation, image units.
        restorer: what restores.
        seed: of noise and order; each picture has its own stream.
    """

    task: Task
    noise: float
    restorer: Restorer
    seed: int

    def run(self, pictures: Sequence[Picture]) -> Iterator[Trial]:
        """One trial for each picture, with a progress bar."""
        with progress(f"restoring ({self.task.name})", len(pictures)) as advance:
            for index, picture in enumerate(pictures):
                truth = picture.pixels[None]
                H, y = degraded(truth, self.task, self.noise, self.seed, index)
                yield Trial(picture.name, truth, H, y, self.restorer(y, H, self.noise, advance))


def degraded(
    truth: Float[Tensor, "b c h w"], task: Task, noise: float, seed: int, index: int
) -> tuple[Operator, Float[Tensor, " b *out"]]:
    """The operator for picture number `index`, and the measurement with noise of its own."""
    channels, height, width = truth.shape[1:]
    H = task.operator((channels, height, width), index)
    (stream,) = stream_seeds(seed, [f"picture/{index}"])
    return H, degrade(truth, H, noise, stream)


def read_truths(data: Path, crop: int) -> list[Picture]:
    """The centre part of every picture in a folder.

    Raises: InputError when there is none, when one cannot be read, or is smaller than `crop`.
    """
    if not data.is_dir():
        raise InputError(f"data: {data} is no folder; give a folder of true pictures")
    return [centre(read_picture(path), crop) for path in find_pictures([data])]


def centre(picture: Picture, crop: int) -> Picture:
    """The centre part of a picture, alpha dropped.

    Raises: InputError when the picture is smaller than `crop`.
    """
    height, width = picture.pixels.shape[1:]
    if min(height, width) < crop:
        raise InputError(
            f"crop: {picture.name} has {width} x {height} pixels; give --crop "
            f"{min(height, width)} or less, or leave that picture out"
        )
    top, left = (height - crop) // 2, (width - crop) // 2
    pixels = picture.pixels[:, top : top + crop, left : left + crop]
    return replace(picture, pixels=pixels.contiguous(), alpha=None)


def gathered(trials: Sequence[Trial]) -> tuple[Bounds, Float[Tensor, "b c h w"]]:
    """The raw bounds and the truth of all trials, as one batch."""
    bounds = [trial.restoration.bounds for trial in trials]
    whole = Bounds(
        torch.cat([b.lower for b in bounds]),
        torch.cat([b.estimate for b in bounds]),
        torch.cat([b.upper for b in bounds]),
        bounds[0].provenance,
    )
    return whole, torch.cat([trial.truth for trial in trials])
