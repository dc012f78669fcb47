"""Random patches from pictures held in memory: the training batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, Real, UInt8
from torch import Tensor

from certes.data.pictures import find_pictures, read_picture
from certes.errors import InputError

_LUMINANCE = torch.tensor([0.299, 0.587, 0.114])

EVERY = slice(None)
"""The share of a process that trains alone: all of a batch."""

SYMMETRIES = ("none", "flips", "square")


class PatchDataset:
    """Square patches of 8-bit pictures, turned and mirrored at random.

    Each patch comes from a picture drawn uniformly (a large picture counts as much as a small one),
    at a position drawn uniformly in it, in one of the orientations of its `symmetries`: `none`,
    `flips` (left and right) or `square` (all eight). A share `busy` of the patches is instead the
    one of highest variance among `candidates` such draws: microscopy is mostly dark background, and
    a network that sees little else learns little else.

    `pictures` are (C, H, W) uint8 with one channel count, each at least `size` pixels a side.

    Raises: InputError when there are no pictures, when they differ in channels, when one is smaller
    than `size`, or for unknown symmetries.
    """

    def __init__(
        self,
        pictures: Sequence[UInt8[Tensor, "c h w"]],
        size: int,
        busy: float = 0.5,
        candidates: int = 4,
        symmetries: str = "square",
    ) -> None:
        _check_pictures(pictures, size)
        self.size = size
        self.busy = busy
        self.symmetries = symmetries
        # Where no patch is chosen for its content, there is nothing to choose from.
        self.candidates = candidates if busy > 0 else 1
        self.channels = pictures[0].shape[0]
        # One flat buffer, so that patches of pictures of any size are one gather.
        self._pixels = torch.cat([p.reshape(self.channels, -1) for p in pictures], dim=1)
        self._sizes = torch.tensor([p.shape[1:] for p in pictures])
        areas = self._sizes.prod(dim=1)
        self._starts = areas.cumsum(0) - areas
        self._orientations = _orientations(size, symmetries)

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self._sizes)

    def pictures(self) -> Iterator[UInt8[Tensor, "c h w"]]:
        """The pictures that a model learns to restore, whole."""
        for start, (height, width) in zip(self._starts, self._sizes, strict=True):
            pixels = self._pixels[:, start : start + height * width]
            yield pixels.reshape(self.channels, int(height), int(width))

    def batch(
        self, step: int, batch_size: int, seed: int, share: slice = EVERY
    ) -> Float[Tensor, "b c s s"]:
        """Draw the patches of one training step, (B, C, S, S) in [0, 1].

        A pure function of (seed, step), so that training resumed at a step sees what it would have
        seen without the interruption. Of the whole batch only those in `share` are cut out.
        """
        rng = np.random.default_rng([seed, step])
        places = self._draw(rng, batch_size * self.candidates)
        unchosen = torch.as_tensor(rng.random(batch_size) >= self.busy)[share]
        places = places.reshape(batch_size, self.candidates, -1)[share].flatten(0, 1)
        patches = self._pixels[:, self._pixels_at(places)].movedim(0, 1)
        patches = patches.reshape(-1, self.candidates, self.channels, self.size, self.size)
        chosen = patches.float().var(dim=(2, 3, 4)).argmax(dim=1)
        chosen[unchosen] = 0
        return patches[torch.arange(len(chosen)), chosen].float() / 255

    def _draw(self, rng: np.random.Generator, count: int) -> Int64[Tensor, "n 3"]:
        """Random patches: where each starts in the flat buffer, how wide its picture is, and its
        orientation.
        """
        picture = torch.as_tensor(rng.integers(len(self), size=count))
        heights, widths = self._sizes[picture].unbind(1)
        top = torch.as_tensor(rng.integers(heights.numpy() - self.size + 1))
        left = torch.as_tensor(rng.integers(widths.numpy() - self.size + 1))
        turned = torch.as_tensor(rng.integers(self._orientations.shape[1], size=count))
        start = self._starts[picture] + top * widths + left
        return torch.stack([start, widths, turned], dim=1)

    def _pixels_at(self, places: Int64[Tensor, "n 3"]) -> Int64[Tensor, "n s_squared"]:
        """Where in the flat buffer the pixels of patches lie."""
        start, widths, turned = places.unbind(1)
        rows, columns = self._orientations[:, turned]
        return start[:, None] + rows * widths[:, None] + columns


def load_folder(
    folder: str | Path,
    advance: Callable[[float], None] = lambda pictures: None,
    grey: bool = False,
) -> list[UInt8[Tensor, "c h w"]]:
    """Read every picture in a folder as (C, H, W) uint8; alpha is dropped, deeper ones are rounded.

    `advance` is told of every picture read. With `grey`, colours become their luminance (ITU-R
    BT.601).

    Raises: InputError for a folder without pictures, or a picture that cannot be read.
    """
    paths = find_pictures([folder])
    # Decoding releases the interpreter's lock.
    with ThreadPoolExecutor() as pool:
        pictures: list[UInt8[Tensor, "c h w"]] = []
        for picture in pool.map(partial(_read_8bit, grey=grey), paths):
            pictures.append(picture)
            advance(1)
    return pictures


def to_grey(picture: UInt8[Tensor, "c h w"]) -> UInt8[Tensor, "c2 h w"]:
    """The luminance of an RGB picture (ITU-R BT.601), at 8 bit; others as they are."""
    return _luminance(picture).round().to(torch.uint8) if len(picture) == 3 else picture


def _luminance(pixels: Real[Tensor, "3 h w"]) -> Float[Tensor, "1 h w"]:
    return (_LUMINANCE[:, None, None] * pixels).sum(0, keepdim=True)


def _read_8bit(path: Path, grey: bool) -> UInt8[Tensor, "c h w"]:
    pixels = read_picture(path).pixels
    if grey and len(pixels) == 3:
        pixels = _luminance(pixels)
    return (pixels * 255).round().to(torch.uint8)


def _check_pictures(pictures: Sequence[UInt8[Tensor, "c h w"]], size: int) -> None:
    if not pictures:
        raise InputError("pictures: none given, at least one is needed")
    channels = {p.shape[0] for p in pictures}
    if len(channels) > 1:
        raise InputError(
            f"pictures: channel counts {sorted(channels)} are mixed: give all grey or all RGB"
        )
    smallest = min(min(p.shape[1:]) for p in pictures)
    if smallest < size:
        raise InputError(
            f"size: patches of {size} pixels do not fit in a picture {smallest} pixels small: "
            "lower the size or leave that picture out"
        )


def _orientations(size: int, symmetries: str) -> Int64[Tensor, "2 orientations s_squared"]:
    """Row and column of each patch pixel under some symmetries of the square."""
    side = torch.arange(size)
    grid = torch.stack(torch.meshgrid(side, side, indexing="ij"))
    if symmetries not in SYMMETRIES:
        raise InputError(f"symmetries: {symmetries!r}; give one of {', '.join(SYMMETRIES)}")
    turned = [torch.rot90(grid, k, (1, 2)) for k in range(4 if symmetries == "square" else 1)]
    flips = [[t] if symmetries == "none" else [t, t.flip(2)] for t in turned]
    return torch.stack([g.reshape(2, -1) for pair in flips for g in pair], dim=1)
