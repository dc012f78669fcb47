r"""What another miss rate would have cost: risk and width as functions of the interval size.

At size lambda a picture's loss is the share of its pixels whose critical value exceeds lambda, so
the realised risk is known exactly everywhere, and so is the smallest size at which it is at most
some alpha. These sizes are read off the very pictures that are scored: they describe them, and
guarantee nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float64
from numpy import ndarray

from certes.intervals.bounds import Bounds
from certes.intervals.counted import Batches, Counted, Masks, Truths, missed
from certes.intervals.families import Family, family_named
from certes.intervals.quantiles import sample_rungs
from certes.intervals.resampling import central, draws, per_unit

if TYPE_CHECKING:
    from certes.intervals.shapes import Shape

LEVELS = (0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01, 0.005)


@dataclass(frozen=True, eq=False)
class RiskCurve:
    """Realised risk and mean width at ascending interval sizes.

    Args:
        sizes: lambdas of the family.
        risk: mean over units of the share of missed pixels.
        limits: 95 % bootstrap interval of each risk over units; ``None`` for a single unit.
        width: mean width, image units, weighted as the risk is.
    """

    sizes: Float64[ndarray, " g"]
    risk: Float64[ndarray, " g"]
    limits: Float64[ndarray, "g 2"] | None
    width: Float64[ndarray, " g"]

    def at_most(self, risk: float) -> int | None:
        """Index of the smallest of its sizes with a risk of at most `risk`, if there is one."""
        low = np.flatnonzero(self.risk <= risk)
        return int(low[0]) if len(low) else None


def risk_curve(
    bounds: Batches,
    truth: Truths,
    *,
    family: str = "scale",
    shape: Shape | None = None,
    include: Sequence[float] = (),
    levels: Sequence[float] = LEVELS,
    counted: Masks | None = None,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> RiskCurve:
    """Risk and width at the sizes that realise the given risks, and at others.

    Args:
        bounds: raw bounds (B, C, H, W), in one batch or in several.
        truth: true pictures, same shape, values in [0, 1].
        family: of the intervals, see `certes.intervals.families`.
        shape: factors on the size that differ from pixel to pixel, of a card.
        include: sizes that the curve shall hold too, for example a card's.
        levels: risks; the smallest size that realises each on these pictures is on the curve. A
            risk that no finite size realises is left out.
        counted: which pixels count, (B, C or 1, H, W).
        groups: one label per picture where pictures are not independent.
        seed: of the bootstrap.

    Raises: InputError for arguments that do not fit.
    """
    pictures = Counted.of(bounds, truth, counted, groups)
    chosen = family_named(family)
    critical = pictures.values(lambda b, t: chosen.critical(b, t, shape))
    sizes = np.unique([*_needed(critical, pictures, levels), *include])
    losses = np.stack([_losses(values, sizes) for values in critical])
    share = (pictures.weight * pictures.size)[:, None]  # of its unit
    units = per_unit(losses * share, pictures.unit)
    return RiskCurve(
        sizes,
        units.mean(axis=0),
        _limits(units, seed),
        np.array([_mean_width(pictures, chosen, float(size), shape) for size in sizes]),
    )


@dataclass(frozen=True)
class RungScore:
    """How often one of several nested intervals holds the truth, and how wide it is.

    Args:
        coverage: mean over units of the share of pixels inside.
        interval: its 95 % bootstrap interval over units; ``None`` for a single unit.
        width: mean width, image units.
    """

    coverage: float
    interval: tuple[float, float] | None
    width: float


def rung_scores(
    bounds: Batches,
    truth: Truths,
    *,
    counted: Masks | None = None,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> list[RungScore]:
    """Coverage and width of every rung of raw bounds, innermost first; none without rungs.

    Arguments and errors as those of `risk_curve`.
    """
    pictures = Counted.of(bounds, truth, counted, groups)
    rungs = min(0 if b.rungs is None else len(b.rungs) for b in pictures.bounds)
    return [_rung(pictures, i, seed) for i in range(rungs)]


def rung_coverages(samples: int) -> list[float]:
    """Probability with which each rung of K exact posterior samples covers the truth.

    ``(K + 1 - 2k) / (K + 1)`` from the k-th smallest to the k-th largest of them, innermost first.
    """
    ranks = torch.arange(samples, dtype=torch.float32).reshape(-1, 1, 1, 1, 1)
    lower, upper = sample_rungs(ranks).flatten(1).T
    return [float(span) / (samples + 1) for span in upper - lower]


def _rung(pictures: Counted, i: int, seed: int) -> RungScore:
    at = replace(pictures, bounds=[_of_rung(b, i) for b in pictures.bounds])
    misses = np.array([values.sum() for values in at.values(missed)])
    units = per_unit((misses * at.weight)[:, None], at.unit)
    limits = _limits(1 - units, seed)
    return RungScore(
        coverage=float(1 - units.mean()),
        interval=None if limits is None else (float(limits[0, 0]), float(limits[0, 1])),
        width=at.mean_width(),
    )


def _of_rung(bounds: Bounds, i: int) -> Bounds:
    assert bounds.rungs is not None
    lower, upper = bounds.rungs[i]
    return Bounds.ordered(lower, bounds.estimate, upper)


def _needed(critical: Sequence[ndarray], pictures: Counted, levels: Sequence[float]) -> list[float]:
    """The smallest size whose risk is at most each level; those that are not finite left out."""
    values = np.concatenate(critical)
    order = np.argsort(values)[::-1]
    weight = np.repeat(pictures.weight / pictures.units, pictures.size)[order]
    above = np.cumsum(weight)  # the risk just below each value, in descending order
    # Rounding must not turn a risk that is equal to the level into one above it.
    first = np.searchsorted(above, np.asarray(levels) * (1 + 1e-12), side="right")
    sizes = values[order][first[first < len(values)]]
    return [float(size) for size in sizes if np.isfinite(size)]


def _losses(values: ndarray, sizes: Float64[ndarray, " g"]) -> Float64[ndarray, " g"]:
    return 1 - np.searchsorted(np.sort(values), sizes, side="right") / len(values)


def _limits(units: Float64[ndarray, "n g"], seed: int) -> Float64[ndarray, "g 2"] | None:
    if len(units) == 1:
        return None
    resampled = draws(len(units), seed) @ units / len(units)
    return np.array([central(column) for column in resampled.T])


def _mean_width(pictures: Counted, family: Family, size: float, shape: Shape | None) -> float:
    applied = [family.apply(b, size, shape) for b in pictures.bounds]
    return replace(pictures, bounds=applied).mean_width()
