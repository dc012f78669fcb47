"""Exact binomial and normal probabilities.

From `scipy.special` alone: `scipy.stats` takes a second to import.

Sources: Clopper and Pearson 1934 (interval); Abramowitz and Stegun 26.5.24 (incomplete beta form).
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from scipy import special  # pyright: ignore[reportMissingTypeStubs]

_special = cast(Any, special)  # scipy publishes no types


def binomial_cdf(k: int, n: int, p: float) -> float:
    """``P(Binomial(n, p) <= k)`` for ``0 <= k <= n``."""
    return float(_special.bdtr(k, n, p))


def binomial_above(k: float, n: int, p: Float64[ndarray, " *shape"]) -> Float64[ndarray, " *shape"]:
    """``P(Binomial(n, p) > k)`` for ``0 <= k <= n``."""
    return np.asarray(_special.bdtrc(np.floor(k), n, p))


def binomial_quantile(level: float, n: int, p: float) -> int:
    """Smallest k with ``P(Binomial(n, p) <= k) >= level``."""
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if binomial_cdf(middle, n, p) >= level else (middle + 1, high)
    return low


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact two-sided confidence interval of a probability, from `successes` in `trials`."""
    tail = (1 - confidence) / 2
    failures = trials - successes
    lower = _special.betaincinv(successes, failures + 1, tail) if successes else 0.0
    upper = _special.betaincinv(successes + 1, failures, 1 - tail) if failures else 1.0
    return float(lower), float(upper)


def log_normal_cdf(z: Float64[ndarray, " n"]) -> Float64[ndarray, " n"]:
    """Logarithm of the standard normal distribution function."""
    return np.asarray(_special.log_ndtr(z))


def normal_miss(z: Float64[ndarray, " *shape"]) -> Float64[ndarray, " *shape"]:
    """Probability that a standard normal variable lies further from 0 than z >= 0."""
    return np.asarray(_special.erfc(z / np.sqrt(2)))
