"""Parts of a set of pictures: some of them, or some pixels of each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from numpy import ndarray
from torch import Tensor

from certes.intervals.bounds import Bounds
from certes.intervals.critical import digest

_PIXELS = 1024  # of each picture, where not all are needed


def some_pictures(bounds: Bounds, numbers: Int[ndarray, " k"]) -> Bounds:
    """The bounds of the pictures of these numbers, in their order."""
    index = torch.as_tensor(numbers, device=bounds.estimate.device)
    return replace(
        bounds,
        lower=bounds.lower[index],
        estimate=bounds.estimate[index],
        upper=bounds.upper[index],
        rungs=None if bounds.rungs is None else bounds.rungs[:, :, index],
    )


def some_pixels(
    bounds: Bounds, truth: Float[Tensor, "b c h w"], counted: Bool[Tensor, "b c h w"] | None
) -> tuple[Bounds, Float[Tensor, "1 1 1 m"], Float64[ndarray, " m"]]:
    """Bounds and truth of up to 1024 random counted pixels of each picture, in one row.

    Returns: the bounds (1, 1, 1, m), the truth, and weights of the pixels, of sum 1, by which all
        pictures count alike.
    """
    rng = np.random.default_rng(0)
    pixels = truth[0].numel()
    chosen: list[Int[ndarray, " k"]] = []
    for i in range(len(truth)):
        of_picture = np.arange(pixels) if counted is None else _numbers(counted[i])
        if len(of_picture) > _PIXELS:
            of_picture = rng.choice(of_picture, _PIXELS, replace=False)
        chosen.append(i * pixels + of_picture)
    weight = np.concatenate([np.full(len(c), 1 / (len(c) * len(truth))) for c in chosen])
    index = torch.as_tensor(np.concatenate(chosen), device=truth.device)

    def row(pictures: Tensor) -> Tensor:
        return pictures.reshape(-1)[index].reshape(1, 1, 1, -1)

    rungs = bounds.rungs
    return (
        replace(
            bounds,
            lower=row(bounds.lower),
            estimate=row(bounds.estimate),
            upper=row(bounds.upper),
            rungs=None if rungs is None else rungs.flatten(2)[:, :, None, None, None, index],
        ),
        row(truth),
        weight,
    )


def split_units(
    truth: Float[Tensor, "b c h w"], unit: Int[ndarray, " b"], share: float, seed: int
) -> tuple[Int[ndarray, " k"], Int[ndarray, " rest"]]:
    """Divide pictures at random into two sets that no unit straddles.

    The set to which a picture goes depends on the pictures and the seed, not on their order.

    Args:
        truth: the pictures.
        unit: the unit of each, numbers 0..n-1, all used.
        share: of the units that go to the first set; one goes there at least.
        seed: of the division.

    Returns: numbers of the pictures of the first set, and of the second.
    """
    content = np.zeros(int(unit.max()) + 1, np.uint64)
    pictures = truth.cpu().numpy()
    digests = np.array([digest(picture.ravel()) for picture in pictures], np.uint64)
    np.add.at(content, unit, digests)
    order = np.argsort(content, kind="stable")
    drawn = order[np.random.default_rng(seed).permutation(len(order))]
    first = np.isin(unit, drawn[: max(1, round(share * len(order)))])
    return np.flatnonzero(first), np.flatnonzero(~first)


def _numbers(mask: Bool[Tensor, "c h w"]) -> Int[ndarray, " k"]:
    return np.flatnonzero(mask.cpu().numpy())
