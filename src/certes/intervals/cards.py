"""The calibration card: a certified interval size, and what is needed to tell where it holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from certes.data.files import read_json, write_json
from certes.errors import CalibrationError, CertesError
from certes.intervals.bounds import Bounds, Provenance
from certes.intervals.families import FAMILIES
from certes.intervals.rules import RULES, ImageLevel, Promise
from certes.intervals.shapes import Shape, shape_from_config
from certes.intervals.shift import check_shift

_FORMAT = "certes calibration 1"

Card = TypeVar("Card")


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A certified interval size, and all that is needed to tell where it holds.

    Call it on raw bounds to get intervals with the guarantee. A card holds no pixels.

    Args:
        alpha: certified risk: mean share of missed pixels in a unit.
        delta: probability with which the certificate may be wrong; ``None`` for rules that only
            promise an average over calibrations.
        rule: name of the rule, see `certes.intervals.rules`.
        family: name of the nested family, see `certes.intervals.families`.
        size: the certified lambda.
        n: number of independent units, images or groups.
        images: number of images.
        grouped: whether units are groups of images.
        seed: seed of the order in which the rule saw the units.
        date: when it was made, UTC, ISO 8601.
        version: version of certes that made it.
        provenance: what made the bounds; ``None`` for bounds that did not say.
        tolerance: share of an image's pixels that may be missed, for rules that count images.
        shape: weights of lambda by side and part of the picture; ``None`` if all are alike.
        counted: whether only some pixels of each image counted, and are meant.
        exact: whether the critical values were exact, and not rounded up in histograms.
        sketches: fingerprints of the calibration images (`certes.data.fingerprints.sketch`), so
            that an image that served for calibration can be told.
        features: what the bounds of the calibration images looked like
            (`certes.intervals.shift.features`), so that others can be told.
    """

    alpha: float
    delta: float | None
    rule: str
    family: str
    size: float
    n: int
    images: int
    grouped: bool
    seed: int
    date: str
    version: str
    provenance: Provenance | None = None
    tolerance: float | None = None
    shape: Shape | None = None
    counted: bool = False
    exact: bool = True
    sketches: tuple[tuple[str, ...], ...] = ()
    features: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        if self.rule not in RULES or self.family not in FAMILIES:
            raise CalibrationError(f"rule {self.rule!r} or family {self.family!r} is unknown")
        if (self.delta is not None) != RULES[self.rule].needs_delta:
            raise CalibrationError(f"delta: {self.delta} does not go with the rule {self.rule!r}")
        if (self.tolerance is not None) != (self.rule == ImageLevel.name):
            raise CalibrationError(
                f"tolerance: {self.tolerance} does not go with the rule {self.rule!r}"
            )
        levels = [x for x in (self.alpha, self.delta, self.tolerance) if x is not None]
        if not (all(0 < x < 1 for x in levels) and math.isfinite(self.size)):
            raise CalibrationError(
                f"alpha {self.alpha}, delta {self.delta}, tolerance {self.tolerance} must be in"
                f" (0, 1), lambda {self.size} finite"
            )
        if not 1 <= self.n <= self.images:
            raise CalibrationError(f"n: {self.n} units of {self.images} images cannot be")

    @property
    def guarantee(self) -> str:
        """The guarantee in plain words."""
        promise = Promise(
            self.alpha, self.delta, self.n, self.grouped, self.tolerance, self.counted
        )
        return RULES[self.rule].words(promise)

    def __call__(self, bounds: Bounds) -> Bounds:
        """Intervals with the guarantee, for raw bounds made like those of the calibration.

        Warns where the bounds do not look like those of the calibration.

        Raises: CalibrationError when the bounds were made by another model, task, noise level or
            sampler than the card's, or have been calibrated already; InputError when they lack what
            the family or the shape needs.
        """
        check_raw(bounds)
        self._check_provenance(bounds.provenance)
        if self.features:
            check_shift(self.features, bounds)
        interval = FAMILIES[self.family].apply(bounds, self.size, self.shape)
        return replace(interval, guarantee=self.guarantee)

    def _check_provenance(self, other: Provenance | None) -> None:
        if self.provenance == other:
            return
        if self.provenance is None or other is None:
            silent, made = ("card does", other) if other else ("bounds do", self.provenance)
            difference = f"the {silent} not say what made them, the other side says {made}"
        else:
            difference = "; ".join(self.provenance.differences(other))
        raise CalibrationError(
            f"this calibration does not hold for these bounds (card's value first): {difference};"
            " calibrate for this combination"
        )

    def save(self, path: str | Path) -> None:
        """Write the card as JSON, atomically."""
        write_json(path, self.card())

    def card(self) -> dict[str, Any]:
        """The card as JSON types: every field, `size` under the name lambda, and the guarantee."""
        content = asdict(replace(self, shape=None))
        content["lambda"] = content.pop("size")
        content["shape"] = self.shape and self.shape.to_config()
        return {"format": _FORMAT, "guarantee": self.guarantee, **content}

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read a card.

        Raises: CalibrationError when there is none or it is damaged, naming the file and why.
        """
        return read_card(path, cls.of_card, "calibration card", "`certes calibrate`")

    @classmethod
    def of_card(cls, content: Any) -> Calibration:
        """The calibration that `card` described.

        Raises: ValueError, TypeError, KeyError or CertesError for anything else.
        """
        card = checked_format(content, _FORMAT)
        known = {**_KINDS, **{name: kinds for name, kinds in _NEWER.items() if name in card}}
        made, shape = card.get("provenance"), card.get("shape")
        return cls(
            **checked_kinds({**card, "size": card.get("lambda")}, known),
            provenance=None if made is None else Provenance(**made),
            shape=None if shape is None else shape_from_config(shape),
            sketches=tuple(tuple(map(str, row)) for row in card.get("sketches", ())),
            features=tuple(tuple(map(float, row)) for row in card.get("features", ())),
        )


_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("alpha", "size"), (int, float)),
    **dict.fromkeys(("n", "images", "seed"), (int,)),
    **dict.fromkeys(("rule", "family", "date", "version"), (str,)),
    "delta": (int, float, type(None)),
    "grouped": (bool,),
}
# Fields that older cards lack.
_NEWER: dict[str, tuple[type, ...]] = {
    "tolerance": (int, float, type(None)),
    **dict.fromkeys(("counted", "exact"), (bool,)),
}


def read_card(path: str | Path, of: Callable[[Any], Card], what: str, again: str) -> Card:
    """What a JSON file describes.

    Args:
        path: the file.
        of: makes it of JSON types, and raises whatever unfit ones do.
        what: the file should be, in words.
        again: what makes it anew.

    Raises: CalibrationError when there is none or it is damaged, naming the file and why.
    """
    try:
        return of(read_json(path))
    except (
        *(OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
        CertesError,
    ) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CalibrationError(
            f"{path}: not a readable {what} ({reason}); make it again with {again}"
        ) from error


def checked_format(content: Any, wanted: str) -> dict[str, Any]:
    """A JSON object that says that it is of a format. Raises: ValueError if it is not."""
    if not isinstance(content, dict):
        raise ValueError("it is not a JSON object")
    card = cast(dict[str, Any], content)
    if card.get("format") != wanted:
        raise ValueError(f"format is {card.get('format')!r}, not {wanted!r}")
    return card


def checked_kinds(card: Mapping[str, Any], kinds: Mapping[str, tuple[type, ...]]) -> dict[str, Any]:
    """The fields that have a kind. Raises: ValueError for one of another kind, or none."""
    for name, known in kinds.items():
        # type() and not isinstance(): to the latter True is a number.
        if type(card.get(name)) not in known:
            raise ValueError(f"{name} is {card.get(name)!r}")
    return {name: card[name] for name in kinds}


def check_raw(bounds: Bounds) -> None:
    """Raise CalibrationError when `bounds` have been calibrated already."""
    if bounds.guarantee is not None:
        raise CalibrationError(
            "bounds: they have been calibrated already; pass the raw bounds, as the model made them"
        )
