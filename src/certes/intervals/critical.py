r"""Critical values: for each pixel the smallest interval size that covers its true value.

With them the loss of an image at size lambda is the share of its counted pixels whose critical
value exceeds lambda, a step function known everywhere. No grid of lambdas is ever needed, and the
pictures need not be looked at again. Two forms, and rules see only what they have in common:

* `CriticalValues`: all of them, exact;
* `Histograms`: how many fall into each float of 8 mantissa bits, rounded **up**. Losses are then
  never too small, so what is certified with them holds; and since such floats represent themselves,
  a monotone test ends at the exact size rounded up, at most 0.4 % above it. The bins cover all
  floats, so they need no range, and histograms from anywhere can be merged.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Self

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Int32, UInt64
from numpy import ndarray

_COARSE = 1024  # candidates of the first bisection; the second has about (pixels / _COARSE)
_DROPPED = 15  # of the 23 mantissa bits of a float32; 8 are kept
_TINY = 2.0**-20  # smaller positive values share one bin: far below what a picture can show

SAMPLE = 1024
"""Pixels of each image that a histogram keeps as they are: from these rules set their bets."""


Binned = tuple[
    Int32[ndarray, " bins"],
    Int32[ndarray, " bins"],
    Int[ndarray, " bins"],
    Int[ndarray, " images"],
]
"""Numbers of bins, pixels in each, the image of each, and all pixels of every image."""


class Units(ABC):
    """Losses of independent units, images or groups of images, as functions of the interval size.

    Attributes:
        unit: the unit of each image, numbers 0..n-1, every one of them used. Betting rules see the
            units in this order.
    """

    unit: Int[ndarray, " images"]

    @cached_property
    def n(self) -> int:
        """Number of units."""
        return int(self.unit.max()) + 1

    def losses(self, size: float) -> Float64[ndarray, " n"]:
        """Loss of every unit at one interval size: its images' mean share of missed pixels."""
        return self._unit_means(self._shares(size))

    def shuffled(self, seed: int) -> Self:
        """The same units in a random order drawn from `seed`, whatever order they came in.

        Units are first put in the order of their digests, which the order, the batches and the
        workers in which images came have no part in, and then permuted.
        """
        digests = np.zeros(self.n, np.uint64)
        np.add.at(digests, self.unit, self._digests())  # a sum, modulo 2^64: free of any order
        number = np.empty(self.n, np.int64)
        number[np.argsort(digests, kind="stable")] = np.random.default_rng(seed).permutation(self.n)
        return self._with(unit=number[self.unit])

    @abstractmethod
    def first(self, count: int) -> Self:
        """Only the images of the first `count` units."""

    @abstractmethod
    def thinned(self, pixels: int) -> CriticalValues:
        """At most `pixels` pixels of each image, at random positions (the same in every image)."""

    @abstractmethod
    def smallest_accepted(self, accepts: Callable[[Float64[ndarray, " n"]], bool]) -> float | None:
        """The smallest size whose losses a monotone test accepts, exactly; ``None`` if none is.

        Losses change at critical values only, so the answer is one of them. Infinite ones count as
        missed at every size.
        """

    def table(
        self, above: float = -np.inf
    ) -> tuple[Float64[ndarray, " g"], Float64[ndarray, "n g"]]:
        """Sizes, ascending, and every unit's loss at each: for tests that are not monotone.

        The sizes are floats of 8 mantissa bits, a grid that does not depend on the data. Those at
        which no loss changes are left out: a scan from the top that stops at the first rejection
        ends at the same size with them as without.

        Args:
            above: sizes that are smaller than this are left out, for scans that cannot reach them.
        """
        numbers, counts, images, pixels = self._binned()
        kept = np.flatnonzero(numbers >= bin_numbers(up(np.array([above])))[0])
        occupied, column = np.unique(numbers[kept], return_inverse=True)
        cells = images[kept] * len(occupied) + column
        inside = np.bincount(cells, counts[kept], len(pixels) * len(occupied))
        inside = inside.reshape(len(pixels), len(occupied))
        shares = (inside.sum(axis=1, keepdims=True) - inside.cumsum(axis=1)) / pixels[:, None]
        sizes = bin_edges(occupied).astype(np.float64)
        finite = np.isfinite(sizes)
        if not finite.any():
            return np.array([float(np.finfo(np.float32).max)]), np.ones((self.n, 1))
        return sizes[finite], self._unit_means(shares[:, finite])

    @abstractmethod
    def _binned(self) -> Binned:
        """What `table` is made of."""

    @abstractmethod
    def _digests(self) -> UInt64[ndarray, " images"]:
        """A number for each image that depends on its exact critical values alone."""

    @abstractmethod
    def _shares(self, size: float) -> Float64[ndarray, " images"]:
        """Share of missed pixels of every image."""

    @abstractmethod
    def _with(self, unit: Int[ndarray, " images"]) -> Self:
        """The same images with other unit numbers."""

    @cached_property
    def _by_unit(self) -> tuple[Int[ndarray, " images"], Int[ndarray, " n"]]:
        """Images sorted by unit, where each unit starts. Within a unit they are sorted by content:
        a sum in another order could differ in its last bit."""
        ungrouped = self.n == len(self.unit)
        order = np.argsort(self.unit) if ungrouped else np.lexsort((self._digests(), self.unit))
        return order, np.searchsorted(self.unit[order], np.arange(self.n))

    def _unit_means(self, shares: Float64[ndarray, " images *g"]) -> Float64[ndarray, " n *g"]:
        order, starts = self._by_unit
        if len(starts) == len(order):
            return shares[order]
        members = np.diff(starts, append=len(order)).reshape(-1, *(1,) * (shares.ndim - 1))
        return np.add.reduceat(shares[order], starts, axis=0) / members


class CriticalValues(Units):
    """Critical values of all calibration pixels, and the independent unit of each image.

    Args:
        images: the counted pixels of each image, at least one: rows of an array (images, pixels),
            or arrays of unequal size. Any real dtype; they are rounded up to float32.
        unit: the unit of each image, see `Units`.

    Attributes:
        values: all critical values, image after image.
        pixels: number of counted pixels of each image.
    """

    values: Float32[ndarray, " pixels"]
    pixels: Int[ndarray, " images"]

    def __init__(
        self,
        images: Float[ndarray, "images pixels"] | Sequence[Float[ndarray, " pixels"]],
        unit: Int[ndarray, " images"],
    ) -> None:
        flat = images.ravel() if isinstance(images, ndarray) else np.concatenate(images)
        self.values, self.unit = up(flat), unit
        self.pixels = np.array([len(image) for image in images])

    @classmethod
    def of_images(
        cls, images: Float[ndarray, "images pixels"] | Sequence[Float[ndarray, " pixels"]]
    ) -> CriticalValues:
        """Every image is a unit of its own, in the given order."""
        return cls(images, np.arange(len(images)))

    def first(self, count: int) -> CriticalValues:
        early = self.unit < count
        return self._like(
            self.values[np.repeat(early, self.pixels)], self.pixels[early], self.unit[early]
        )

    def thinned(self, pixels: int) -> CriticalValues:
        if self.pixels.max() <= pixels:
            return self
        return CriticalValues([sample(image, pixels) for image in self._split()], self.unit)

    def smallest_accepted(self, accepts: Callable[[Float64[ndarray, " n"]], bool]) -> float | None:
        # The first bisection runs over a sample of the critical values, the second over all that
        # lie in the bracket it leaves.
        stride = max(1, self.values.size // _COARSE)
        coarse = np.append(self.values[::stride], _largest_finite(self.values))
        bracket = _bisect(
            np.unique(coarse[np.isfinite(coarse)]), lambda size: accepts(self.losses(size))
        )
        return bracket and self._refined(*bracket, accepts)

    def _refined(
        self, low: float, high: float, accepts: Callable[[Float64[ndarray, " n"]], bool]
    ) -> float:
        """The smallest accepted size in (low, high], of which `high` is accepted."""
        inside = np.flatnonzero((self.values > down(low)) & (self.values <= down(high)))
        values = self.values[inside]
        image = np.searchsorted(self._starts, inside, side="right") - 1
        beyond = self._missed(high)

        def accepted(size: float) -> bool:
            missed = beyond + np.bincount(image[values > down(size)], minlength=len(self.pixels))
            return accepts(self._unit_means(missed / self.pixels))

        found = _bisect(np.unique(values), accepted)
        return found[1] if found else high

    def _binned(self) -> Binned:
        images = np.repeat(np.arange(len(self.pixels)), self.pixels)
        return bin_numbers(self.values), np.ones(len(images), np.int32), images, self.pixels

    def _digests(self) -> UInt64[ndarray, " images"]:
        return np.array([digest(image) for image in self._split()], np.uint64)

    def _shares(self, size: float) -> Float64[ndarray, " images"]:
        return self._missed(size) / self.pixels

    def _missed(self, size: float) -> Int32[ndarray, " images"]:
        return np.add.reduceat(self.values > down(size), self._starts, dtype=np.int32)

    def _split(self) -> list[Float32[ndarray, " pixels"]]:
        ends = zip(self._starts.tolist(), (self._starts + self.pixels).tolist(), strict=True)
        return [self.values[start:stop] for start, stop in ends]

    @cached_property
    def _starts(self) -> Int[ndarray, " images"]:
        return np.cumsum(self.pixels) - self.pixels

    def _with(self, unit: Int[ndarray, " images"]) -> CriticalValues:
        return self._like(self.values, self.pixels, unit)

    @classmethod
    def _like(
        cls,
        values: Float32[ndarray, " pixels"],
        pixels: Int[ndarray, " images"],
        unit: Int[ndarray, " images"],
    ) -> CriticalValues:
        """Of values that are in one piece already: they are not copied."""
        new = cls.__new__(cls)
        new.values, new.pixels, new.unit = values, pixels, unit
        return new


@dataclass(frozen=True, eq=False)
class Histogram:
    """Critical values of one image, rounded up to floats of 8 mantissa bits and counted.

    Args:
        bins: numbers of the occupied bins, ascending, see `bin_numbers`.
        counts: pixels in each.
        sample: up to `SAMPLE` critical values as they are, as `CriticalValues.thinned` takes them.
    """

    bins: Int32[ndarray, " bins"]
    counts: Int32[ndarray, " bins"]
    sample: Float32[ndarray, " sample"]

    @classmethod
    def of(cls, values: Float32[ndarray, " pixels"]) -> Histogram:
        """The histogram of one image's counted pixels."""
        numbers = bin_numbers(values)
        lowest = numbers.min()
        counts = np.bincount(numbers - lowest)
        occupied = np.flatnonzero(counts)
        return cls(
            (occupied + lowest).astype(np.int32),
            counts[occupied].astype(np.int32),
            sample(values, SAMPLE),
        )

    @property
    def nbytes(self) -> int:
        """Memory that it takes, bytes."""
        return self.bins.nbytes + self.counts.nbytes + self.sample.nbytes


@dataclass(frozen=True, eq=False)
class Histograms(Units):
    """Histograms of the calibration images, and the independent unit of each.

    Args:
        images: one for each image.
        unit: the unit of each image, see `Units`.
        digests: of the exact critical values, so that the order is that of `CriticalValues`.
    """

    images: Sequence[Histogram]
    unit: Int[ndarray, " images"]
    digests: UInt64[ndarray, " images"]

    def first(self, count: int) -> Histograms:
        early = np.flatnonzero(self.unit < count)
        kept = [self.images[i] for i in early.tolist()]
        return Histograms(kept, self.unit[early], self.digests[early])

    def thinned(self, pixels: int) -> CriticalValues:
        """At most `pixels` and at most `SAMPLE` pixels of each image, as they are."""
        return CriticalValues([image.sample for image in self.images], self.unit).thinned(pixels)

    def smallest_accepted(self, accepts: Callable[[Float64[ndarray, " n"]], bool]) -> float | None:
        sizes = bin_edges(self._occupied)
        found = _bisect(sizes[np.isfinite(sizes)], lambda size: accepts(self.losses(size)))
        return found and found[1]

    def _binned(self) -> Binned:
        numbers = np.concatenate([image.bins for image in self.images])
        counts = np.concatenate([image.counts for image in self.images])
        images = np.repeat(np.arange(len(self.images)), [len(image.bins) for image in self.images])
        return numbers, counts, images, self._flat[3]

    def _digests(self) -> UInt64[ndarray, " images"]:
        return self.digests

    def _shares(self, size: float) -> Float64[ndarray, " images"]:
        edges, counts, starts, pixels = self._flat
        return np.add.reduceat(np.where(edges > down(size), counts, 0), starts) / pixels

    @cached_property
    def _occupied(self) -> Int32[ndarray, " g"]:
        """Bins in which any image has pixels, ascending."""
        return np.unique(np.concatenate([image.bins for image in self.images]))

    @cached_property
    def _flat(
        self,
    ) -> tuple[
        Float32[ndarray, " bins"],
        Int32[ndarray, " bins"],
        Int[ndarray, " images"],
        Int[ndarray, " images"],
    ]:
        """Edges and counts of all bins, image after image, where each image starts, its pixels."""
        sizes = np.array([len(image.bins) for image in self.images])
        counts = np.concatenate([image.counts for image in self.images])
        starts = np.cumsum(sizes) - sizes
        edges = bin_edges(np.concatenate([image.bins for image in self.images]))
        return edges, counts, starts, np.add.reduceat(counts, starts)

    def _with(self, unit: Int[ndarray, " images"]) -> Histograms:
        return replace(self, unit=unit)


def digest(values: Float32[ndarray, " pixels"]) -> int:
    """A number below 2^64 that depends on the bits of these values and on nothing else."""
    content = np.ascontiguousarray(values, "<f4").data
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def sample(values: Float32[ndarray, " pixels"], pixels: int) -> Float32[ndarray, " sample"]:
    """At most `pixels` of the values, at random positions that depend on their number alone."""
    return values if len(values) <= pixels else values[_positions(len(values), pixels)]


@lru_cache(maxsize=64)
def _positions(total: int, pixels: int) -> Int[ndarray, " pixels"]:
    return np.random.default_rng(0).choice(total, pixels, replace=False)


def bin_numbers(values: Float32[ndarray, " pixels"]) -> Int32[ndarray, " pixels"]:
    """Numbers, in the order of the values, of the floats of 8 mantissa bits they round up to.

    A float32 without its sign, read as an integer, rises with its size; with the sign put back it
    rises with the value, and dropping bits of it rounds.
    """
    bits = values.view(np.int32)
    magnitude = bits & 0x7FFFFFFF
    ordered = np.where(bits < 0, -magnitude, magnitude)
    numbers = -(-ordered >> _DROPPED)
    tiny = _tiny_number()
    small = (numbers > -tiny) & (numbers < tiny)
    return np.where(small, np.where(values > 0, tiny, 0), numbers)


def bin_edges(numbers: Int32[ndarray, " bins"]) -> Float32[ndarray, " bins"]:
    """The values that the bins of these numbers stand for, their upper edges."""
    magnitude = (np.abs(numbers) << _DROPPED).astype(np.int32).view(np.float32)
    return np.copysign(magnitude, numbers.astype(np.float32))


@lru_cache
def _tiny_number() -> int:
    return int(np.float32(_TINY).view(np.int32)) >> _DROPPED


def up(x: Float[ndarray, " *shape"]) -> Float32[ndarray, " *shape"]:
    """The smallest float32 that is not below x."""
    if x.dtype == np.float32:
        return x
    with np.errstate(over="ignore"):  # to infinity, which is not below
        near = x.astype(np.float32)
    return np.where(near < x, np.nextafter(near, np.float32(np.inf)), near)


def down(size: float) -> np.float32:
    """The largest float32 that is not above `size`: a float32 exceeds both or neither."""
    with np.errstate(over="ignore"):
        near = np.float32(size)
    return np.nextafter(near, np.float32(-np.inf)) if float(near) > size else near


def _largest_finite(values: Float32[ndarray, " pixels"]) -> np.float32:
    largest = values.max()
    if np.isfinite(largest):
        return largest
    return values.max(where=np.isfinite(values), initial=-np.inf)


def _bisect(
    candidates: Float[ndarray, " k"], accepted: Callable[[float], bool]
) -> tuple[float, float] | None:
    """Neighbours (rejected, accepted) in ascending candidates; ``None`` if the last is rejected.

    The first is minus infinity when even the smallest candidate is accepted.
    """
    if not len(candidates) or not accepted(float(candidates[-1])):
        return None
    low, high = -1, len(candidates) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if accepted(float(candidates[middle])) else (middle, high)
    return float(candidates[low]) if low >= 0 else -np.inf, float(candidates[high])
