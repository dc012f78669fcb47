"""The pictures that a model knows: ``fitted.safetensors`` in its folder, and who must not be there.

Intervals fit a picture that a model was trained on, or that it was chosen by, better than a new
one; calibrated on such pictures they are too narrow for all others. A model folder therefore keeps
fingerprints of those pictures (:mod:`certes.data.fingerprints`), by which they, and crops of them,
are told from new ones. Models of older or other make have no such file: they cannot be checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Real
from torch import Tensor

from certes.data.fingerprints import Album
from certes.data.tensors import write_tensors
from certes.errors import CalibrationError, ModelError
from certes.networks.files import read_tensors

FITTED = "fitted.safetensors"
_PARTS = ("trained", "selected")
_NAMED = 5

Picture = Real[Tensor, "c h w"]


@dataclass(frozen=True, eq=False)
class Fitted:
    """The pictures that a model knows.

    Args:
        trained: those that its weights were fitted to.
        selected: those by which a checkpoint or a time was chosen.
    """

    trained: Album
    selected: Album

    @classmethod
    def to(cls, trained: Iterable[Picture], selected: Iterable[Picture] = ()) -> Fitted:
        """Remember pictures, (C, H, W) each, uint8 or in [0, 1]."""
        return cls(Album.of(trained), Album.of(selected))

    def __or__(self, other: Fitted | None) -> Fitted:
        """What a model knows that goes on from another one; ``None``: from who knows what."""
        if other is None:
            return self
        return Fitted(self.trained | other.trained, self.selected | other.selected)

    def save(self, folder: Path) -> None:
        """Write the file of a model folder; unsigned numbers are stored as signed ones."""
        albums = (self.trained, self.selected)
        numbers = {
            name: torch.as_tensor(album.numbers.view(np.int64))
            for name, album in zip(_PARTS, albums, strict=True)
        }
        bounds = np.array([album.bound for album in albums], np.uint64).view(np.int64)
        write_tensors(folder / FITTED, {**numbers, "bounds": torch.as_tensor(bounds)})

    @classmethod
    def load(cls, folder: Path) -> Fitted | None:
        """Read the file of a model folder; ``None`` if there is none.

        Raises: ModelError for a damaged one.
        """
        path = folder / FITTED
        if not path.is_file():
            return None
        tensors = read_tensors(path)
        if set(tensors) != {*_PARTS, "bounds"} or any(
            value.dtype != torch.int64 or value.ndim != 1 for value in tensors.values()
        ):
            raise ModelError(
                f"model: {path} holds no fingerprints; train or measure the model anew"
            )
        numbers = [tensors[name].numpy().view(np.uint64) for name in _PARTS]
        bounds: list[int] = tensors["bounds"].numpy().view(np.uint64).tolist()
        trained, selected = (Album(n, b) for n, b in zip(numbers, bounds, strict=True))
        return cls(trained, selected)

    def complaint(self, truths: Iterable[Picture], names: Sequence[str]) -> str | None:
        """What is wrong with judging the model by some pictures, if anything.

        Args:
            truths: the pictures, (C, H, W) each.
            names: theirs.
        """
        trained: list[str] = []
        selected: list[str] = []
        for truth, name in zip(truths, names, strict=True):
            if self.trained.knows(truth):
                trained.append(name)
            elif self.selected.knows(truth):
                selected.append(name)
        said = [*_said(trained, "train"), *_said(selected, "choose")]
        if not said:
            return None
        return (
            f"data: of {len(names)} pictures, {'; '.join(said)}: a model does better on pictures "
            "that it knows than on new ones, so they prove nothing; leave them out"
        )


def check_unseen(fitted: Fitted, truths: Iterable[Picture], names: Sequence[str]) -> None:
    """Refuse pictures that a model knows.

    Args:
        fitted: what it knows.
        truths: the pictures that it shall be judged by, (C, H, W) each, uint8 or in [0, 1].
        names: theirs.

    Raises: CalibrationError saying how many and which of them served to train or choose it.
    """
    complaint = fitted.complaint(truths, names)
    if complaint is not None:
        raise CalibrationError(complaint)


def listed(names: Sequence[str]) -> str:
    """The first names, and how many there are besides."""
    more = [f"and {len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return ", ".join([*names[:_NAMED], *more])


def _said(names: Sequence[str], purpose: str) -> Iterator[str]:
    if names:
        yield f"{len(names)} served to {purpose} the model ({listed(names)})"
