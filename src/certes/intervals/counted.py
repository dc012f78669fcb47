"""What is scored: pictures of one size or of several, the pixels that count, and their units."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from numpy import ndarray
from torch import Tensor

from certes.errors import InputError
from certes.intervals.bounds import Bounds, check_counted, check_groups, check_truth

Batches = Bounds | Sequence[Bounds]
Truths = Float[Tensor, "b c h w"] | Sequence[Float[Tensor, "b c h w"]]
Masks = Bool[Tensor, "b c h w"] | Sequence[Bool[Tensor, "b c h w"]]


@dataclass(frozen=True, eq=False)
class Counted:
    """Bounds and truths in batches of one picture size each; make it with `Counted.of`.

    Args:
        bounds: one for each batch.
        truths: the true pictures, shaped as the bounds.
        masks: which values count, shaped as the truths; ``None`` for all.
        unit: the independent unit of each picture over all batches, numbers 0..n-1, all used.
    """

    bounds: Sequence[Bounds]
    truths: Sequence[Float[Tensor, "b c h w"]]
    masks: Sequence[Bool[Tensor, "b c h w"] | None]
    unit: Int[ndarray, " images"]

    @classmethod
    def of(
        cls,
        bounds: Batches,
        truth: Truths,
        counted: Masks | None = None,
        groups: Sequence[Hashable] | None = None,
    ) -> Counted:
        """Check and pair what users give.

        Args:
            bounds: of one batch, or of several whose pictures differ in size.
            truth: true pictures (B, C, H, W), likewise.
            counted: which pixels count, bool (B, C or 1, H, W), likewise; by default all.
            groups: one label per picture where pictures are not independent; by default each is
                a unit of its own.

        Raises: InputError for shapes or numbers that do not match, and for a picture none of whose
            pixels counts.
        """
        batches = [bounds] if isinstance(bounds, Bounds) else list(bounds)
        truths = _listed("truth", truth, len(batches))
        masks = _listed("counted", counted, len(batches))
        for batch, pictures in zip(batches, truths, strict=True):
            check_truth(pictures, batch)
        whole = [_mask(m, t) for m, t in zip(masks, truths, strict=True)]
        return cls(batches, truths, whole, unit_numbers(groups, sum(map(len, truths))))

    @property
    def images(self) -> int:
        """Number of pictures."""
        return len(self.unit)

    @property
    def units(self) -> int:
        """Number of independent units."""
        return int(self.unit.max()) + 1

    @cached_property
    def size(self) -> Int[ndarray, " images"]:
        """Number of values that count in each picture."""
        sizes = [
            np.full(len(truth), truth[0].numel()) if mask is None else _count(mask)
            for truth, mask in zip(self.truths, self.masks, strict=True)
        ]
        return np.concatenate(sizes)

    @cached_property
    def weight(self) -> Float64[ndarray, " images"]:
        """Of one value in each picture: pictures of a unit weigh alike, and so do all units."""
        return 1 / (self.size * np.bincount(self.unit)[self.unit])

    def values(self, of: Callable[[Bounds, Tensor], Any]) -> list[Float[ndarray, " m"]]:
        """For each picture the values that count, of whatever `of` makes of a batch."""
        parts: list[ndarray] = []
        for bounds, truth, mask in self.batches():
            whole = torch.as_tensor(of(bounds, truth)).cpu()
            parts += [
                (picture.flatten() if mask is None else picture[mask[i]]).numpy()
                for i, picture in enumerate(whole)
            ]
        return parts

    def mean_width(self) -> float:
        """Mean width of the intervals, image units, weighted by `weight`."""
        sums = [w.sum(dtype=np.float64) for w in self.values(lambda bounds, _: bounds.width)]
        return float(np.dot(sums, self.weight) / self.units)

    def batches(self) -> Iterator[tuple[Bounds, Tensor, Tensor | None]]:
        """Bounds, truth and mask of each batch."""
        return zip(self.bounds, self.truths, self.masks, strict=True)


def missed(bounds: Bounds, truth: Float[Tensor, "b c h w"]) -> Bool[Tensor, "b c h w"]:
    """Where the intervals do not hold the truth."""
    return ~bounds.contains(truth)


def _listed(name: str, given: Any, batches: int) -> list[Any]:
    listed = [given] * batches if given is None else given
    listed = [listed] if isinstance(listed, Tensor) else list(listed)
    if len(listed) != batches:
        raise InputError(
            f"{name}: {len(listed)} batches, wanted {batches}: one for each of the bounds"
        )
    return listed


def _count(mask: Bool[Tensor, "b c h w"]) -> Int[ndarray, " b"]:
    return mask.flatten(1).sum(dim=1).numpy()


def _mask(counted: Tensor | None, truth: Tensor) -> Bool[Tensor, "b c h w"] | None:
    return None if counted is None else check_counted(counted, truth).cpu()


def unit_numbers(groups: Sequence[Hashable] | None, images: int) -> Int[ndarray, " images"]:
    """The independent unit of each image, numbers 0..n-1 in the order in which groups appear.

    Args:
        groups: one label per image; by default each image is a unit of its own.
        images: their number.

    Raises: InputError for another number of labels.
    """
    check_groups(groups, images)
    if groups is None:
        return np.arange(images)
    numbers = {label: i for i, label in enumerate(dict.fromkeys(groups))}
    return np.array([numbers[label] for label in groups])
