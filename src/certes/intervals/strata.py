r"""A lambda for each stratum of raw width, after K-RCPS (Teneggi et al. 2023).

Where narrow raw bounds are too narrow by another factor than wide ones, one lambda for all makes
many intervals wider than they need be. Pixels are put into K strata of raw width, and lambda is
multiplied by a weight in each. Edges and weights are found on a part of the units, on which nothing
is certified; the factor that all strata have in common is then calibrated on the rest at the full
delta, with any rule.

The weights are those of the sizes :math:`\lambda_k` with the least mean width and an empirical risk
of at most alpha. Each stratum minimises :math:`w_k(\lambda_k) + \mu\, m_k(\lambda_k)`, its share of
the mean width plus a price mu for its share of the misses, the same for all strata: at the optimum
no width can be traded between them. A larger mu makes fewer misses, so the right one is found by
bisection. (The source solves a convex relaxation of this instead, with a general solver.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Float64, Int
from numpy import ndarray
from torch import Tensor

from certes.errors import CalibrationError, InputError
from certes.intervals.bounds import Bounds
from certes.intervals.cards import Calibration
from certes.intervals.counted import Counted
from certes.intervals.families import Family, family_named
from certes.intervals.parts import some_pictures, some_pixels, split_units
from certes.intervals.rules import rule_named
from certes.intervals.shapes import Strata
from certes.intervals.tally import Label, Tally

STRATA = 4
SHARE = 0.25
"""Share of the units on which weights are found."""

_MISSES = np.geomspace(8.0, 1 / 16, 40)  # candidate miss rates of a stratum, over alpha
_WIDTHS = 16  # sizes at which widths are measured; between them they are interpolated
_SPREAD = 64.0  # the largest weight over the smallest, at most


def calibrate_strata(
    bounds: Bounds,
    truth: Float[Tensor, "b c h w"],
    *,
    alpha: float = 0.1,
    delta: float = 0.1,
    rule: str = "wsr",
    family: str = "scale",
    groups: Sequence[Label] | None = None,
    counted: Bool[Tensor, "b c h w"] | None = None,
    strata: int = STRATA,
    share: float = SHARE,
    tolerance: float = 0.1,
    seed: int = 0,
) -> Calibration:
    """Find weights of strata of raw width on some units, certify their common factor on others.

    Args:
        strata: number of strata; they hold about equally many pixels.
        share: share of the units on which edges and weights are found.
        seed: of the split and of the order in which the rule sees the units.
        bounds, truth, alpha, delta, rule, family, groups, counted, tolerance: see `calibrate`.

    Raises: as `calibrate`; the units that find the weights do not count for it.
    """
    if strata < 1 or not 0 < share < 1:
        raise InputError(
            f"strata: {strata} strata on a share {share:g} of the units; at least one stratum and a"
            " share between 0 and 1 are wanted"
        )
    pictures = Counted.of(bounds, truth, counted, groups)
    mask = pictures.masks[0]
    fitted, rest = split_units(truth, pictures.unit, share, seed)
    needed, left = rule_named(rule).smallest_n(alpha, delta), len(set(pictures.unit[rest].tolist()))
    if left < needed:
        raise CalibrationError(
            f"shape 'strata': {left} independent images or groups are left to calibrate with, the"
            f" others serve to find the weights; the rule {rule} needs at least {needed}; give"
            " more, or calibrate without a shape"
        )

    def part(numbers: Int[ndarray, " k"]) -> tuple[Bounds, Tensor, Tensor | None]:
        counts = None if mask is None else mask[numbers]
        return some_pictures(bounds, numbers), truth[numbers], counts

    shape = best_strata(
        *some_pixels(*part(fitted)), alpha=alpha, family=family_named(family), strata=strata
    )
    tally = Tally(family, shape=shape, memory=4 * truth.numel())
    tally.add(*part(rest), None if groups is None else [groups[int(i)] for i in rest])
    return tally.calibrate(alpha=alpha, delta=delta, rule=rule, tolerance=tolerance, seed=seed)


def best_strata(
    bounds: Bounds,
    truth: Float[Tensor, "1 c h w"],
    weight: Float64[ndarray, " m"],
    *,
    alpha: float,
    family: Family,
    strata: int,
) -> Strata:
    """The strata and weights of least mean width whose risk on these pixels is at most alpha.

    Args:
        bounds, truth: one picture of m pixels.
        weight: of each pixel, of sum 1.
    """
    raw = (bounds.upper.double() - bounds.lower.double()).cpu().numpy().ravel()
    edges = np.unique(np.quantile(raw, np.arange(1, strata) / strata, method="higher"))
    edges = tuple(edges[edges > raw.min()].tolist())
    stratum = Strata(edges, (1.0,) * (len(edges) + 1)).strata(raw)
    critical = family.critical(bounds, truth).ravel().astype(np.float64)
    sizes, misses = _candidates(critical, stratum, weight, alpha)
    widths = _widths(bounds, family, stratum, weight, sizes)
    best = np.take_along_axis(sizes, _least_width(widths, misses, alpha)[:, None], axis=1)[:, 0]
    if best.max() <= 0:  # every truth is its estimate: nothing to choose
        return Strata(edges, (1.0,) * len(best))
    return Strata(edges, tuple(np.maximum(best / best.max(), 1 / _SPREAD).tolist()))


def _candidates(
    critical: Float64[ndarray, " m"],
    stratum: Int[ndarray, " m"],
    weight: Float64[ndarray, " m"],
    alpha: float,
) -> tuple[Float64[ndarray, "k g"], Float64[ndarray, "k g"]]:
    """Sizes for each stratum, ascending, and the risk that its misses at each add to the whole."""
    finite = critical[np.isfinite(critical)]
    largest = finite.max() if len(finite) else 1.0
    sizes: list[ndarray] = []
    misses: list[ndarray] = []
    for k in range(int(stratum.max()) + 1):
        inside = np.flatnonzero(stratum == k)
        inside = inside[np.argsort(critical[inside])]
        # beyond[j]: the weight of all pixels whose critical values come after number j
        beyond = weight[inside].sum() - np.cumsum(weight[inside])
        wanted = np.clip(alpha * _MISSES, 0, 1) * beyond[0]
        at = _first_at_most(beyond, wanted)
        sizes.append(np.minimum(critical[inside[at]], largest))
        misses.append(np.maximum(beyond[at], 0))
    return np.stack(sizes), np.stack(misses)


def _first_at_most(
    falling: Float64[ndarray, " m"], limits: Float64[ndarray, " g"]
) -> Int[ndarray, " g"]:
    """Number of the first value that is at most each limit; of the last if none is."""
    return np.minimum((falling[:, None] > limits).sum(axis=0), len(falling) - 1)


def _widths(
    bounds: Bounds,
    family: Family,
    stratum: Int[ndarray, " m"],
    weight: Float64[ndarray, " m"],
    sizes: Float64[ndarray, "k g"],
) -> Float64[ndarray, "k g"]:
    """What each stratum adds to the mean width at each of its sizes."""
    low, high = float(sizes.min()), float(sizes.max())
    known = [low + (high - low) * j / (_WIDTHS - 1) for j in range(_WIDTHS)]
    shares: list[ndarray] = [
        np.bincount(stratum, weight * family.apply(bounds, size).width.cpu().numpy().ravel())
        for size in known
    ]
    widths = np.empty(sizes.shape)
    for k, share in enumerate(np.stack(shares, axis=1)):
        widths[k] = np.interp(sizes[k], known, share)
    return widths


def _least_width(
    widths: Float64[ndarray, "k g"], misses: Float64[ndarray, "k g"], alpha: float
) -> Int[ndarray, " k"]:
    """Number of the candidate of each stratum, of least width with misses of at most alpha."""
    low, high = -30.0, 30.0  # logarithms of the price; widths and misses are at most 1
    chosen = misses.argmin(axis=1)
    for _ in range(50):
        price = np.exp((low + high) / 2)
        trial = (widths + price * misses).argmin(axis=1)
        if np.take_along_axis(misses, trial[:, None], axis=1).sum() <= alpha:
            chosen, high = trial, (low + high) / 2
        else:
            low = (low + high) / 2
    return chosen
