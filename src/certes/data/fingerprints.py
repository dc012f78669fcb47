r"""Fingerprints of pictures: numbers by which a picture, or a part of it, is known again.

Every 8 x 8 window of the 8-bit picture (all its channels together) has a polynomial hash; those
whose stirred hash begins with six zero bits are the fingerprints. The choice hangs on content
alone, so a crop keeps those of the picture that lie in it, wherever it was cut. Windows in which
few neighbours differ do not count: flat backgrounds, and those with a few odd pixels, are alike in
many pictures, while even the faintest noise never repeats. One more number, the digest of the whole
picture, knows an exact repeat also where no window counts.

Cropping is survived; scaling, turning, mirroring and lossy compression are not.

Sources: Karp and Rabin 1987 (rolling hashes); Schleimer, Wilkerson, Aiken 2003 (choosing them by
their value); Broder 1997 (keeping the smallest).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int, Real, UInt8, UInt64
from numpy import ndarray
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from certes.data.patches import to_grey

WINDOW = 8
"""Side of a window, pixels."""

_CHOSEN = np.uint64(2**58)  # hashes below it, one window in 64, are fingerprints
# Of the 112 pairs of neighbours in a window, so many must differ. With 24 no fingerprint of the 122
# test pictures of data/nuclei is among those of its 338 training pictures; counting grey levels
# instead, the same needs 6 of them, and a sixth of all 64 x 64 crops then has no fingerprint.
_UNEQUAL = 32
_SKETCH = 8
# Odd numbers that must never change.
_DOWN, _ACROSS, _CHANNEL = 0xD6E8FEB86659FD93, 0x9E3779B97F4A7C15, 0xA24BAED4963EE407

_LEAST = 2  # fingerprints that must be known of a picture that is known, and the share of its own
_SHARE = 1 / 3
_PER_PICTURE = 16
_BUDGET = 2**17
_ALL = 2**64 - 1

Numbers = UInt64[ndarray, " n"]


def fingerprints(picture: Real[Tensor, "c h w"]) -> Numbers:
    """Fingerprints of a picture, ascending, each once: its digest (odd), the others even.

    Args:
        picture: (C, H, W), uint8, or floats in [0, 1], which are rounded to 8 bit.
    """
    pixels = _at_8bit(picture).numpy()
    return np.unique(np.append(_windows(pixels), _digest(pixels)))


def sketch(picture: Real[Tensor, "c h w"]) -> tuple[str, ...]:
    """At most 8 fingerprints that stand for a picture: its digest and the smallest others.

    Args:
        picture: as for `fingerprints`.

    Returns: hexadecimal numbers of 16 digits, the digest first.
    """
    numbers = fingerprints(picture)
    whole = _is_digest(numbers)
    chosen = [*numbers[whole], *numbers[~whole][: _SKETCH - 1]]
    return tuple(f"{int(number):016x}" for number in chosen)


@dataclass(frozen=True, eq=False)
class Album:
    """What is remembered of many pictures.

    Args:
        numbers: their fingerprints, ascending: all digests, and the others up to `bound`.
        bound: the largest of the others that was kept.
    """

    numbers: Numbers
    bound: int

    @classmethod
    def of(cls, pictures: Iterable[Real[Tensor, "c h w"]]) -> Album:
        """Remember pictures by about a megabyte, or by 16 fingerprints each where that is more."""
        parts = [fingerprints(picture) for picture in pictures]
        numbers = np.unique(np.concatenate([np.empty(0, np.uint64), *parts]))
        windows = numbers[~_is_digest(numbers)]
        budget = max(_BUDGET, _PER_PICTURE * len(parts))
        bound = _ALL if len(windows) <= budget else int(windows[budget - 1])
        return cls(numbers, _ALL)._up_to(bound)

    def __or__(self, other: Album) -> Album:
        """What is remembered of the pictures of both."""
        bound = min(self.bound, other.bound)
        return Album(np.union1d(self.numbers, other.numbers), bound)._up_to(bound)

    def knows(self, picture: Real[Tensor, "c h w"]) -> bool:
        """Whether a picture, or one that it is a part of, is remembered.

        That is so if its digest is, or a third of its other fingerprints and at least two. A colour
        picture is known by its luminance too, for grey models learn from that.
        """
        return any(self._knows(fingerprints(view)) for view in _views(picture))

    def _knows(self, numbers: Numbers) -> bool:
        whole = _is_digest(numbers)
        windows = numbers[~whole & (numbers <= np.uint64(self.bound))]
        repeated = _found(numbers[whole], self.numbers).any()
        return bool(repeated or _enough(_found(windows, self.numbers).sum(), len(windows)))

    def _up_to(self, bound: int) -> Album:
        kept = _is_digest(self.numbers) | (self.numbers <= np.uint64(bound))
        return Album(self.numbers[kept], bound)


def sketched(
    sketches: Sequence[tuple[str, ...]], pictures: Iterable[Real[Tensor, "c h w"]]
) -> list[bool]:
    """Which pictures are, or hold a part of, one of those that some sketches stand for.

    Args:
        sketches: of `sketch`.
        pictures: (C, H, W) each, as there.

    Raises: ValueError if they are no hexadecimal numbers.
    """
    drawn = np.array([int(word, 16) for words in sketches for word in words], np.uint64)
    owner = np.repeat(np.arange(len(sketches)), [len(words) for words in sketches])
    windows = ~_is_digest(drawn)
    sizes = np.bincount(owner[windows], minlength=len(sketches))

    def known(picture: Real[Tensor, "c h w"]) -> bool:
        found = _found(drawn, fingerprints(picture))
        counts = np.bincount(owner[windows & found], minlength=len(sketches))
        return bool((~windows & found).any() or _enough(counts, sizes).any())

    return [known(picture) for picture in pictures]


def _enough(found: Any, of: Any) -> Any:
    """Whether so many known fingerprints are no chance."""
    return (found >= _LEAST) & (found >= _SHARE * of)


def _found(numbers: Numbers, ascending: Numbers) -> Bool[ndarray, " n"]:
    """Which of the numbers are among others, quicker than `numpy.isin`, which would sort them."""
    if not len(ascending):
        return np.zeros(len(numbers), bool)
    return ascending[np.searchsorted(ascending, numbers).clip(max=len(ascending) - 1)] == numbers


def _is_digest(numbers: Numbers) -> Bool[ndarray, " n"]:
    return numbers % np.uint64(2) == 1


def _views(picture: Real[Tensor, "c h w"]) -> Iterator[UInt8[Tensor, "c2 h w"]]:
    pixels = _at_8bit(picture)
    yield pixels
    if len(pixels) == 3:
        yield to_grey(pixels)


def _at_8bit(picture: Real[Tensor, "c h w"]) -> UInt8[Tensor, "c h w"]:
    eight = picture if picture.dtype == torch.uint8 else (picture * 255).round().to(torch.uint8)
    return eight.cpu().contiguous()


def _windows(pixels: UInt8[ndarray, "c h w"]) -> Numbers:
    """Hashes of the windows that count and were chosen; even numbers."""
    if min(pixels.shape[1:]) < WINDOW:
        return np.empty(0, np.uint64)
    plane = pixels[0].astype(np.uint64)
    for channel in pixels[1:]:
        plane = plane * np.uint64(_CHANNEL) + channel
    hashes = _stirred(_rolled(_rolled(plane, _DOWN).T, _ACROSS).T)
    rows, columns = np.nonzero(hashes < _CHOSEN)
    counts = _unequal_neighbours(pixels, rows, columns) >= _UNEQUAL
    return hashes[rows[counts], columns[counts]] & ~np.uint64(1)


def _rolled(plane: UInt64[ndarray, "h w"], base: int) -> UInt64[ndarray, "h2 w"]:
    """Polynomials in `base` of every 8 rows, modulo 2^64, by doubling: of 2, then 4, then 8."""
    step = 1
    while step < WINDOW:
        plane = plane[:-step] * np.uint64(base) + plane[step:]
        base = base * base % 2**64
        step *= 2
    return plane


def _stirred(z: UInt64[ndarray, "h w"]) -> UInt64[ndarray, "h w"]:
    """Every bit of a polynomial stirred into all (the finaliser of splitmix64)."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _unequal_neighbours(
    pixels: UInt8[ndarray, "c h w"], rows: Int[ndarray, " n"], columns: Int[ndarray, " n"]
) -> Int[ndarray, " n"]:
    """How many of the pairs of neighbours in the windows at these places differ in any channel."""
    below = (pixels[:, 1:] != pixels[:, :-1]).any(axis=0)
    beside = (pixels[:, :, 1:] != pixels[:, :, :-1]).any(axis=0)
    counts = [
        np.count_nonzero(sliding_window_view(unequal, shape)[rows, columns], axis=(1, 2))
        for unequal, shape in ((below, (WINDOW - 1, WINDOW)), (beside, (WINDOW, WINDOW - 1)))
    ]
    return counts[0] + counts[1]


def _digest(pixels: UInt8[ndarray, "c h w"]) -> np.uint64:
    """An odd number for the whole picture."""
    whole = hashlib.blake2b(f"{pixels.shape}".encode(), digest_size=8)
    whole.update(pixels.tobytes())
    return np.uint64(int.from_bytes(whole.digest(), "little") | 1)
