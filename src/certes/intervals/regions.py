r"""Regions of meaning, each with a risk of its own: nuclei and background, organs, land and water.

A label map says to which region every pixel belongs. Each region is calibrated on the images that
show it, with only its pixels counted, at its own alpha; delta is divided among the regions so that
all promises hold at once (union bound). The map must come from the same source wherever a card is
applied: where people drew it for the calibration, a program that draws it later voids the promise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from certes.data.files import write_json
from certes.errors import CalibrationError, InputError
from certes.intervals.bounds import Bounds, check_groups, check_truth
from certes.intervals.cards import Calibration, checked_format, read_card
from certes.intervals.parts import some_pictures
from certes.intervals.rules import rule_named
from certes.intervals.tally import Label, Tally

_FORMAT = "certes region calibration 1"


@dataclass(frozen=True)
class RegionCalibration:
    """A card for every region. Call it on raw bounds and a label map.

    Args:
        cards: by label; the delta of each is its share.
        delta: probability with which any of the certificates may be wrong; ``None`` for rules that
            promise an average over calibrations.
    """

    cards: Mapping[int, Calibration]
    delta: float | None

    def __post_init__(self) -> None:
        shares = [card.delta for card in self.cards.values()]
        given = [share for share in shares if share is not None]
        if not shares or len(given) != (0 if self.delta is None else len(shares)):
            raise CalibrationError(
                "regions: there are none, or some have a delta and some have not"
            )
        if self.delta is not None and sum(given) > self.delta * (1 + 1e-9):
            raise CalibrationError(
                f"regions: their deltas {given} together exceed the {self.delta} that is promised"
            )

    @property
    def guarantee(self) -> str:
        """The guarantee of each region in plain words."""
        each = "".join(
            f" Region {label}, with its pixels counted and the images that show it:"
            f" {card.guarantee}"
            for label, card in self.cards.items()
        )
        if self.delta is None:
            return "What follows holds for each region by itself." + each
        return (
            f"All of what follows holds at once with probability at least {1 - self.delta:.4g}."
            + each
        )

    def __call__(self, bounds: Bounds, regions: Int[Tensor, "b 1 h w"]) -> Bounds:
        """Intervals with the guarantee of the region in which each pixel lies.

        Args:
            bounds: raw bounds, made like those of the calibration.
            regions: label of each pixel, whole numbers.

        Raises: InputError for a map that does not fit, or has labels that were not calibrated;
            CalibrationError for bounds of another make.
        """
        _check_regions(regions, bounds.estimate)
        unknown = sorted(set(map(int, np.unique(regions.cpu().numpy()))) - set(self.cards))
        if unknown:
            raise InputError(
                f"regions: labels {unknown} were not calibrated, only {sorted(self.cards)} were"
            )
        lower, upper = bounds.lower.clone(), bounds.upper.clone()
        estimate = bounds.estimate.clamp(0, 1)
        for label, card in self.cards.items():
            interval, inside = card(bounds), (regions == label).expand(lower.shape)
            lower[inside], upper[inside] = interval.lower[inside], interval.upper[inside]
        return Bounds(lower, estimate, upper, bounds.provenance, self.guarantee)

    def save(self, path: str | Path) -> None:
        """Write the cards as one JSON file, atomically."""
        cards = {str(label): card.card() for label, card in self.cards.items()}
        content = {"format": _FORMAT, "guarantee": self.guarantee, "delta": self.delta}
        write_json(path, {**content, "regions": cards})

    @classmethod
    def load(cls, path: str | Path) -> RegionCalibration:
        """Read what `save` wrote.

        Raises: CalibrationError when there is none or it is damaged, naming the file and why.
        """
        again = "`certes.intervals.regions.calibrate_regions`"
        return read_card(path, cls._of_card, "card of regions", again)

    @classmethod
    def _of_card(cls, content: Any) -> RegionCalibration:
        card = checked_format(content, _FORMAT)
        regions = cast(dict[str, Any], card["regions"])
        delta = card["delta"]
        return cls(
            {int(label): Calibration.of_card(each) for label, each in regions.items()},
            None if delta is None else float(delta),
        )


def calibrate_regions(
    bounds: Bounds,
    truth: Float[Tensor, "b c h w"],
    regions: Int[Tensor, "b 1 h w"],
    *,
    alpha: Mapping[int, float],
    delta: float = 0.1,
    rule: str = "wsr",
    family: str = "scale",
    groups: Sequence[Label] | None = None,
    tolerance: float = 0.1,
    seed: int = 0,
) -> RegionCalibration:
    """Calibrate each region at its own alpha.

    Args:
        bounds: raw bounds of the calibration images, (B, C, H, W).
        truth: the true pictures, values in [0, 1].
        regions: label of each pixel, whole numbers; pixels of labels without an alpha are left out.
        alpha: the largest risk of each region, by label.
        delta: probability with which any of the certificates may be wrong; each region gets an
            equal share.
        rule, family, groups, tolerance, seed: see `calibrate`.

    Raises: InputError for arguments that do not fit; CalibrationError when an alpha cannot be
        certified with the images that show its region.
    """
    check_truth(truth, bounds)
    _check_regions(regions, truth)
    if not alpha:
        raise InputError("alpha: give the risk of at least one region, by label")
    check_groups(groups, len(truth))
    cards: dict[int, Calibration] = {}
    for label, risk in alpha.items():
        inside = regions == label
        shown = np.flatnonzero(inside.flatten(1).any(dim=1).cpu().numpy())
        if not len(shown):
            raise InputError(f"alpha: region {label} is in none of the label maps")
        labels = None if groups is None else [groups[i] for i in shown.tolist()]
        tally = Tally(family, memory=4 * truth.numel())
        tally.add(some_pictures(bounds, shown), truth[shown], inside[shown], labels)
        try:
            cards[label] = tally.calibrate(
                alpha=risk, delta=delta / len(alpha), rule=rule, tolerance=tolerance, seed=seed
            )
        except CalibrationError as error:
            raise CalibrationError(f"region {label}: {error}") from error
    return RegionCalibration(cards, delta if rule_named(rule).needs_delta else None)


def _check_regions(regions: Tensor, pictures: Float[Tensor, "b c h w"]) -> None:
    wanted = (len(pictures), 1, *pictures.shape[2:])
    whole = not (regions.is_floating_point() or regions.is_complex())
    if not whole or tuple(regions.shape) != wanted or regions.device != pictures.device:
        raise InputError(
            f"regions: whole numbers of shape {wanted} on {pictures.device} are wanted, this is"
            f" {regions.dtype} {tuple(regions.shape)} on {regions.device}"
        )
