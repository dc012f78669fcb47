"""Does the guarantee hold? On synthetic images with known risk, and of a card on held-out images.

The synthetic experiments draw images of known risk, calibrate with the very functions that
`calibrate` uses, and judge what came out (`experiments`): every rule under every family, shapes,
and unsound procedures, which must be rejected (`procedures`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64
from numpy import ndarray
from torch import Tensor

from certes.intervals.bounds import Bounds
from certes.intervals.cards import Calibration
from certes.intervals.counted import Counted, missed
from certes.intervals.experiments import Experiment, Row
from certes.intervals.families import FAMILIES
from certes.intervals.metrics import evaluate
from certes.intervals.populations import AllOrNothing, Lognormal, Uneven
from certes.intervals.probability import clopper_pearson
from certes.intervals.procedures import controls, rules_on, shapes_on
from certes.intervals.resampling import per_unit

TAUS = (0.0, 0.15, 0.3, 0.5)
SIZES = (25, 50, 100, 200, 500, 1000)
CONTROL_SIZES = (100, 200)


def synthetic_experiments(
    alpha: float = 0.1,
    delta: float = 0.1,
    sizes: Sequence[int] = (100,),
    taus: Sequence[float] = (0.5,),
    control_sizes: Sequence[int] = (100,),
) -> list[Experiment]:
    """Every rule under every family, shapes, and the unsound procedures.

    Args:
        alpha, delta: what is to be certified.
        sizes: numbers of images per calibration.
        taus: spreads of difficulty over images that the family `scale` is tried with; the other
            families see the largest of them. All see images that are missed whole.
        control_sizes: numbers of images for the unsound procedures.
    """
    return [
        *(e for n in sizes for e in _sound(n, alpha, delta, taus)),
        *(e for n in control_sizes for e in controls(n, alpha, delta)),
    ]


def verify_synthetic(
    trials: int = 1000,
    *,
    alpha: float = 0.1,
    delta: float = 0.1,
    sizes: Sequence[int] = (100,),
    seed: int = 0,
) -> list[Row]:
    """Run the experiments. A caller who wants progress iterates `synthetic_experiments` instead.

    With fewer than about 300 trials the test has too little power to reject every control.
    """
    experiments = synthetic_experiments(alpha, delta, sizes)
    return [row for e in experiments for row in e.run(trials, alpha, delta, seed)]


def _sound(n: int, alpha: float, delta: float, taus: Sequence[float]) -> Iterator[Experiment]:
    for family in FAMILIES:
        for tau in taus if family == "scale" else [max(taus)]:
            yield rules_on(Lognormal(tau), family, n, alpha, delta)
        yield rules_on(AllOrNothing(), family, n, alpha, delta)
    yield shapes_on(Uneven(Lognormal(max(taus)), below=3.0, narrow=2.0), n, alpha, delta)


@dataclass(frozen=True)
class HeldOut:
    """A card on images that it has never seen.

    Args:
        images: their number.
        alpha, delta, tolerance: what the card promises, see `Calibration`.
        risk: share of pixels missed; with a tolerance, share of images that miss more than it.
        interval: 95 % confidence interval of the risk, over images; ``None`` for one image.
    """

    images: int
    alpha: float
    delta: float | None
    tolerance: float | None
    risk: float
    interval: tuple[float, float] | None

    @property
    def verdict(self) -> str:
        """``holds`` if the risk is at most alpha, else ``broken`` or, within error, ``unclear``.

        A promise kept with probability 1 - delta, or on average over calibrations, may be broken by
        chance: ``broken`` says that this card's risk is above alpha, not that the procedure is
        unsound.
        """
        if self.risk <= self.alpha:
            return "holds"
        return "broken" if self.interval and self.interval[0] > self.alpha else "unclear"


def verify_card(
    calibration: Calibration,
    bounds: Bounds,
    truth: Float[Tensor, "b c h w"],
    seed: int = 0,
    *,
    counted: Bool[Tensor, "b c h w"] | None = None,
    groups: Sequence[Hashable] | None = None,
) -> HeldOut:
    """Apply a card to raw bounds of held-out images and compare the risk with its promise.

    Args:
        calibration: the card.
        bounds, truth: raw bounds and true pictures, (B, C, H, W).
        seed: of the bootstrap behind the confidence interval.
        counted: the pixels that count, for a card made with some, bool (B, C or 1, H, W).
        groups: one label per image, for a card made with groups.

    Raises: CalibrationError when the card does not belong to these bounds.
    """
    interval = calibration(bounds)
    if calibration.tolerance is None:
        scores = evaluate(interval, truth, seed, counted=counted, groups=groups)
        risk, limits = scores["risk"], scores["risk_interval"]
    else:
        losses = _unit_losses(Counted.of(interval, truth, counted, groups))
        bad = int((losses > calibration.tolerance).sum())
        risk, limits = bad / len(losses), clopper_pearson(bad, len(losses))
    return HeldOut(
        images=len(truth),
        alpha=calibration.alpha,
        delta=calibration.delta,
        tolerance=calibration.tolerance,
        risk=risk,
        interval=limits,
    )


def _unit_losses(pictures: Counted) -> Float64[ndarray, " units"]:
    """Share of pixels that each unit misses, its images alike."""
    shares = np.array([misses.mean() for misses in pictures.values(missed)])
    sums = per_unit(np.stack([shares, np.ones(len(shares))], axis=1), pictures.unit)
    return sums[:, 0] / sums[:, 1]
