"""What a user hands in to be restored, one file at a time, whatever kind of model restores it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from jaxtyping import Float
from torch import Tensor

from certes.apps.restorer import AnyOrigin
from certes.data.pictures import Picture


@dataclass(frozen=True)
class Source(Generic[AnyOrigin]):
    """What was handed in for one picture.

    Args:
        picture: how the result is to be written: its name, sample type, alpha and channels.
        y: what was measured or given, a batch of one.
        origin: how that came from the picture.
    """

    picture: Picture
    y: Float[Tensor, "1 ..."]
    origin: AnyOrigin


class Reader(ABC, Generic[AnyOrigin]):
    """Reads files as what restorers take."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The task."""

    @property
    @abstractmethod
    def noise(self) -> float | None:
        """Standard deviation, image units; None where it differs from file to file, or is none."""

    @property
    @abstractmethod
    def estimates_noise(self) -> bool:
        """Whether the noise is estimated from each file."""

    @abstractmethod
    def nominal(self) -> AnyOrigin | None:
        """Where every file comes from, sizes aside; None where that differs, or is estimated."""

    @abstractmethod
    def __call__(self, path: Path) -> Source[AnyOrigin]:
        """Read one file.

        Raises: InputError for a file that cannot be restored.
        """
