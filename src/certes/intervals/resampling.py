"""The bootstrap over units: what an estimate would be had other pictures come.

Pixels of one picture are not independent, so whole units (pictures, or groups of them) are drawn
with replacement. Source: Efron and Tibshirani, An introduction to the bootstrap (1993), chapter 8.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int
from numpy import ndarray

RESAMPLES = 2000
CONFIDENCE = 0.95


def draws(units: int, seed: int) -> Int[ndarray, "r units"]:
    """How often each unit is drawn, in each of the resamples."""
    return np.random.default_rng(seed).multinomial(units, [1 / units] * units, RESAMPLES)


def central(resampled: Float[ndarray, " r"]) -> tuple[float, float]:
    """The middle 95 % of the values (percentile interval)."""
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def per_unit(
    values: Float64[ndarray, "images k"], unit: Int[ndarray, " images"]
) -> Float64[ndarray, "units k"]:
    """Sums of the images' values over each unit."""
    sums = np.zeros((int(unit.max()) + 1, values.shape[1]))
    np.add.at(sums, unit, values)
    return sums
