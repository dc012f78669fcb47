"""True pictures, measured and restored: what calibrate, evaluate, verify and demo share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic

import torch
from jaxtyping import Float
from torch import Tensor

from certes.apps.console import progress
from certes.apps.origins import Origin
from certes.apps.restorer import AnyOrigin, Restoration, Restorer
from certes.data.pictures import Picture, find_pictures, read_picture
from certes.errors import InputError
from certes.intervals.bounds import Bounds


@dataclass(frozen=True)
class Observation(Generic[AnyOrigin]):
    """A true picture and what is known of it."""

    truth: Float[Tensor, "1 c h w"]
    y: Float[Tensor, "1 ..."]
    origin: AnyOrigin


@dataclass(frozen=True)
class Trial:
    """One true picture and what came of it."""

    name: str
    truth: Float[Tensor, "1 c h w"]
    y: Float[Tensor, "1 ..."]
    origin: Origin
    restoration: Restoration


class Measuring(ABC, Generic[AnyOrigin]):
    """How true pictures become what is restored."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The task."""

    @property
    @abstractmethod
    def nominal(self) -> AnyOrigin:
        """Where everything that is restored comes from, picture sizes and random masks aside."""

    @abstractmethod
    def observe(self, picture: Picture, index: int) -> Observation[AnyOrigin]:
        """What is known of picture number `index`, which randomness depends on.

        Raises: InputError for a picture of which nothing can be known.
        """

    def read(self, data: Path, crop: int) -> list[Picture]:
        """The centre part of every picture in a folder, as `observe` takes it.

        Raises: InputError when there is none, when one cannot be read, or is smaller than `crop`.
        """
        return read_truths(data, crop)


@dataclass(frozen=True)
class Experiment(Generic[AnyOrigin]):
    """Measure and restore.

    Args:
        measuring: what becomes of true pictures.
        restorer: what restores.
    """

    measuring: Measuring[AnyOrigin]
    restorer: Restorer[Any, AnyOrigin]

    def run(self, pictures: Sequence[Picture]) -> Iterator[Trial]:
        """One trial for each picture, with a progress bar."""
        with progress(f"restoring ({self.measuring.name})", len(pictures)) as advance:
            for index, picture in enumerate(pictures):
                seen = self.measuring.observe(picture, index)
                restoration = self.restorer(seen.y, seen.origin, advance)
                yield Trial(picture.name, seen.truth, seen.y, seen.origin, restoration)


def read_truths(data: Path, crop: int) -> list[Picture]:
    """The centre part of every picture in a folder.

    Raises: InputError when there is none, when one cannot be read, or is smaller than `crop`.
    """
    return [centre(read_picture(path), crop) for path in true_pictures(data)]


def true_pictures(data: Path) -> list[Path]:
    """The pictures in a folder.

    Raises: InputError when it is no folder, or holds none.
    """
    if not data.is_dir():
        raise InputError(f"data: {data} is no folder; give a folder of true pictures")
    return find_pictures([data])


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
