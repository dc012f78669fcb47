r"""Separate lambdas below and above the estimate, by Learn then Test (Angelopoulos et al. 2021).

With two lambdas the smallest is no longer defined, so a few ratios below : above are fixed in
advance. Along each one number is left, certified as ever but at delta / (number of ratios); then
all certificates hold at once with probability at least 1 - delta (Bonferroni), and the narrowest
may be chosen on the very images that they were made on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from jaxtyping import Bool, Float
from torch import Tensor

from certes.errors import InputError
from certes.intervals.bounds import Bounds
from certes.intervals.cards import Calibration
from certes.intervals.counted import Counted
from certes.intervals.critical import CriticalValues, Units
from certes.intervals.families import family_named
from certes.intervals.rules import certify, rule_named
from certes.intervals.shapes import Sides
from certes.intervals.tally import Label, Tally

RATIOS = (0.5, 1.0, 2.0)
"""Sizes below the estimate over those above it that are tried."""


def calibrate_sides(
    bounds: Bounds,
    truth: Float[Tensor, "b c h w"],
    *,
    alpha: float = 0.1,
    delta: float = 0.1,
    rule: str = "wsr",
    family: str = "scale",
    groups: Sequence[Label] | None = None,
    counted: Bool[Tensor, "b c h w"] | None = None,
    ratios: Sequence[float] = RATIOS,
    seed: int = 0,
) -> Calibration:
    """Find lambdas for both sides: of the ratios tried, the one with the narrowest intervals.

    Pays where truths lie on one side of the estimate further away, or more often, than the raw
    bounds say; where they do not, it costs a little width against one lambda for both sides.

    Args:
        ratios: sizes below over sizes above, chosen without a look at these images.
        bounds, truth, alpha, delta, rule, family, groups, counted, seed: see `calibrate`.

    Raises: as `calibrate`; InputError for a rule without delta, whose promise breaks by choosing.
    """
    if not rule_named(rule).needs_delta:
        raise InputError(
            f"rule: {rule!r} has no delta to share among the ratios that 'sides' tries; use 'wsr'"
        )
    if not ratios:
        raise InputError("ratios: give at least one size below over size above")
    pictures = Counted.of(bounds, truth, counted, groups)
    chosen = family_named(family)

    def units(shape: Sides) -> Units:
        values = pictures.values(lambda b, t: chosen.critical(b, t, shape))
        return CriticalValues(values, pictures.unit).shuffled(seed)

    def width(shape: Sides, size: float) -> float:
        return replace(pictures, bounds=[chosen.apply(bounds, size, shape)]).mean_width()

    best, _ = narrowest_sides(units, width, ratios, alpha=alpha, delta=delta, rule=rule)
    tally = Tally(family, shape=best, memory=4 * truth.numel()).add(bounds, truth, counted, groups)
    card = tally.calibrate(alpha=alpha, delta=delta / len(ratios), rule=rule, seed=seed)
    return replace(card, delta=delta)


def narrowest_sides(
    units: Callable[[Sides], Units],
    width: Callable[[Sides, float], float],
    ratios: Sequence[float] = RATIOS,
    *,
    alpha: float,
    delta: float,
    rule: str,
) -> tuple[Sides, float]:
    """Of the ratios, the sides that are certified with the narrowest intervals, and their size.

    Args:
        units: losses of the units under given sides, in random order.
        width: mean width of the intervals under given sides at a given size.
        ratios, alpha, delta, rule: see `calibrate_sides`.
    """
    certified = [
        (sides, certify(units(sides), rule, alpha, delta / len(ratios)))
        for sides in map(_sides, ratios)
    ]
    return min(certified, key=lambda pair: width(*pair))


def _sides(ratio: float) -> Sides:
    if not ratio > 0:
        raise InputError(f"ratios: {ratio} is not above 0")
    return Sides(below=math.sqrt(ratio), above=math.sqrt(1 / ratio))
