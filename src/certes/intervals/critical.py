r"""Critical values: for each pixel the smallest interval size that covers its true value.

With them the loss of an image at size lambda is the share of its pixels whose critical value
exceeds lambda, a step function known exactly everywhere. No grid of lambdas is ever needed, and
the pictures need not be looked at again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int
from numpy import ndarray

_COARSE = 1024  # candidates of the first bisection; the second has about (pixels / _COARSE)


@dataclass(frozen=True, eq=False)
class CriticalValues:
    """Critical values of all calibration pixels, and the independent unit of each image.

    Args:
        values: one row of pixels per image, (images, pixels), any real dtype.
        unit: the unit of each image, numbers 0..n-1, every one of them used. Betting rules see
            the units in this order.
    """

    values: Float[ndarray, "images pixels"]
    unit: Int[ndarray, " images"]

    @classmethod
    def of_images(cls, values: Float[ndarray, "images pixels"]) -> CriticalValues:
        """Every image is a unit of its own, in the given order."""
        return cls(values, np.arange(len(values)))

    @property
    def n(self) -> int:
        """Number of units."""
        return int(self.unit.max()) + 1

    def losses(self, size: float) -> Float64[ndarray, " n"]:
        """Loss of every unit at one interval size: its images' mean share of missed pixels."""
        missed = np.count_nonzero(self.values > size, axis=1) / self.values.shape[1]
        return np.bincount(self.unit, missed) / np.bincount(self.unit)

    def shuffled(self, seed: int) -> CriticalValues:
        """The same units in a random order drawn from `seed`."""
        order = np.random.default_rng(seed).permutation(self.n)
        return CriticalValues(self.values, order[self.unit])

    def first(self, count: int) -> CriticalValues:
        """Only the images of the first `count` units."""
        early = self.unit < count
        return CriticalValues(self.values[early], self.unit[early])

    def thinned(self, pixels: int) -> CriticalValues:
        """At most `pixels` pixels of each image, at random positions (the same in every image)."""
        total = self.values.shape[1]
        if total <= pixels:
            return self
        kept = np.random.default_rng(0).choice(total, pixels, replace=False)
        return CriticalValues(self.values[:, kept], self.unit)

    def smallest_accepted(self, accepts: Callable[[Float64[ndarray, " n"]], bool]) -> float | None:
        """The smallest size whose losses a monotone test accepts, exactly; ``None`` if none is.

        Losses change at critical values only, so the answer is one of them. The first bisection
        runs over a sample of them, the second over all that lie in the bracket it leaves.
        """

        def accepted(size: float) -> bool:
            return accepts(self.losses(size))

        largest = self.values.max()
        if not (np.isfinite(largest) and accepted(float(largest))):
            return None
        pooled = self.values.ravel()
        sample = np.append(pooled[:: max(1, pooled.size // _COARSE)], largest)
        low, high = _bisect(np.unique(sample), accepted)
        bracket = pooled[(pooled > low) & (pooled <= high)]
        return _bisect(np.unique(bracket), accepted)[1]


def _bisect(
    candidates: Float[ndarray, " k"], accepted: Callable[[float], bool]
) -> tuple[float, float]:
    """Neighbours (rejected, accepted) in ascending candidates of which the last is accepted.

    The first is minus infinity when even the smallest candidate is accepted.
    """
    low, high = -1, len(candidates) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if accepted(float(candidates[middle])) else (middle, high)
    return float(candidates[low]) if low >= 0 else -np.inf, float(candidates[high])
