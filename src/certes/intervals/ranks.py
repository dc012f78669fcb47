r"""Rank correlation of interval width and error: are wide intervals where the errors are?

Spearman's :math:`\rho` is the correlation of the ranks, equal values sharing their mean rank. It is
1 when the width orders the pixels as their errors do, 0 when it knows nothing of them. Even a
perfect width does not reach 1, because an error is one draw from the spread that the width tells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64, Int
from numpy import ndarray

from certes.intervals.resampling import RESAMPLES, central, draws, per_unit

# Ranks of the bootstrap are rounded to as many levels; that moves a correlation by about 1 / 64^2.
_LEVELS = 64
_AT_ONCE = 250  # resamples

Values = Sequence[Float[ndarray, " m"]]


def rank_correlation(
    x: Values, y: Values, unit: Int[ndarray, " images"], seed: int = 0
) -> tuple[float | None, tuple[float, float] | None]:
    """Spearman's rank correlation over all pixels, and its 95 % bootstrap interval over units.

    The correlation is exact. In every resample pixels are ranked anew, by their joint histogram.

    Args:
        x: values of each image's pixels, for example widths.
        y: other values of the same pixels, for example absolute errors.
        unit: the unit of each image, numbers 0..n-1.
        seed: of the bootstrap.

    Returns: the correlation, ``None`` where all of x or all of y are equal; the interval, ``None``
        for a single unit too.
    """
    first, second = midranks(np.concatenate(x)), midranks(np.concatenate(y))
    rho = _pearson(first, second)
    if rho is None or int(unit.max()) == 0:
        return rho, None
    tables = per_unit(_tables(first, second, [len(v) for v in x]), unit)
    return rho, _interval(rho, tables, seed)


def midranks(x: Float[ndarray, " m"]) -> Float64[ndarray, " m"]:
    """Ranks 0..m-1 in ascending order; equal values share the mean of theirs."""
    order = np.argsort(x)
    ordered = x[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    stops = np.append(starts[1:], len(x))
    ranks = np.empty(len(x))
    ranks[order] = np.repeat((starts + stops - 1) / 2, stops - starts)
    return ranks


def _pearson(a: Float64[ndarray, " m"], b: Float64[ndarray, " m"]) -> float | None:
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt(a.dot(a) * b.dot(b))
    return float(a.dot(b) / scale) if scale > 0 else None


def _tables(
    first: Float64[ndarray, " m"], second: Float64[ndarray, " m"], sizes: Sequence[int]
) -> Float64[ndarray, "images cells"]:
    """Joint histogram of the two ranks for each image."""
    cells = (_level(first) * _LEVELS + _level(second)).astype(np.int32)
    parts = np.split(cells, np.cumsum(sizes)[:-1])
    return np.stack([np.bincount(p, minlength=_LEVELS**2) for p in parts]).astype(np.float64)


def _level(ranks: Float64[ndarray, " m"]) -> Float64[ndarray, " m"]:
    return np.floor(ranks * (_LEVELS / len(ranks)))


def _interval(
    exact: float, tables: Float64[ndarray, "units cells"], seed: int
) -> tuple[float, float] | None:
    """Of the resamples' correlations, less what rounding took from that of all units."""
    drawn = draws(len(tables), seed).astype(np.float64)
    parts = (drawn[i : i + _AT_ONCE] @ tables for i in range(0, RESAMPLES, _AT_ONCE))
    rho = np.concatenate([_of_tables(part) for part in parts])
    rounded = _of_tables(tables.sum(axis=0, keepdims=True))
    rho = (rho + (exact - rounded))[np.isfinite(rho)]
    return central(rho.clip(-1, 1)) if len(rho) else None


def _of_tables(cells: Float64[ndarray, "r cells"]) -> Float64[ndarray, " r"]:
    """Spearman's correlation in every joint histogram; NaN where one side has a single level."""
    tables = cells.reshape(-1, _LEVELS, _LEVELS)
    rows, columns = tables.sum(axis=2), tables.sum(axis=1)
    a, b = _centred(rows), _centred(columns)
    covariance = np.einsum("rab,ra,rb->r", tables, a, b, optimize=True)
    variances = np.einsum("ra,ra,ra->r", rows, a, a) * np.einsum("rb,rb,rb->r", columns, b, b)
    return np.divide(
        covariance, np.sqrt(variances), out=np.full(len(tables), np.nan), where=variances > 0
    )


def _centred(counts: Float64[ndarray, "r k"]) -> Float64[ndarray, "r k"]:
    """Mean rank of each level, less the mean of all ranks."""
    return counts.cumsum(axis=1) - counts / 2 - counts.sum(axis=1, keepdims=True) / 2
