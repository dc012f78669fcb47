"""The calibration card: a certified interval size, and what is needed to tell where it holds."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from certes.data.files import write_json
from certes.errors import CalibrationError
from certes.intervals.bounds import Bounds, Provenance
from certes.intervals.families import FAMILIES
from certes.intervals.rules import RULES

_FORMAT = "certes calibration 1"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A certified interval size, and all that is needed to tell where it holds.

    Call it on raw bounds to get intervals with the guarantee. A card holds no pixels.

    Args:
        alpha: certified risk: mean share of missed pixels in a unit.
        delta: probability with which the certificate may be wrong.
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
    """

    alpha: float
    delta: float
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

    def __post_init__(self) -> None:
        if self.rule not in RULES or self.family not in FAMILIES:
            raise CalibrationError(f"rule {self.rule!r} or family {self.family!r} is unknown")
        if not (0 < self.alpha < 1 and 0 < self.delta < 1 and math.isfinite(self.size)):
            raise CalibrationError(
                f"alpha {self.alpha}, delta {self.delta} must be in (0, 1), lambda"
                f" {self.size} finite"
            )
        if not 1 <= self.n <= self.images:
            raise CalibrationError(f"n: {self.n} units of {self.images} images cannot be")

    @property
    def guarantee(self) -> str:
        """The guarantee in plain words."""
        units = f"{self.n} groups of images" if self.grouped else f"{self.n} images"
        new = "a new group of images" if self.grouped else "a new image"
        return (
            f"With probability at least {1 - self.delta:.4g} over the choice of the {units} used"
            f" for calibration, the intervals miss the true value at no more than"
            f" {100 * self.alpha:.4g} % of the pixels of {new} of the same kind, on average over"
            " such images."
        )

    def __call__(self, bounds: Bounds) -> Bounds:
        """Intervals with the guarantee, for raw bounds made like those of the calibration.

        Raises: CalibrationError when the bounds were made by another model, task, noise level or
            sampler than the card's, or have been calibrated already.
        """
        check_raw(bounds)
        self._check_provenance(bounds.provenance)
        interval = FAMILIES[self.family].apply(bounds, self.size)
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
        content = asdict(self)
        content["lambda"] = content.pop("size")
        return {"format": _FORMAT, "guarantee": self.guarantee, **content}

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read a card.

        Raises: CalibrationError when there is none or it is damaged, naming the file and why.
        """
        try:
            return cls._of_card(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, CalibrationError) as error:
            reason = str(error).splitlines()[0]
            raise CalibrationError(
                f"{path}: not a readable calibration card ({reason}); make it again with"
                " `certes calibrate`"
            ) from error

    @classmethod
    def _of_card(cls, content: Any) -> Calibration:
        if not isinstance(content, dict):
            raise ValueError("it is not a JSON object")
        card = cast(dict[str, Any], content)
        if card.get("format") != _FORMAT:
            raise ValueError(f"format is {card.get('format')!r}, not {_FORMAT!r}")
        card["size"] = card.get("lambda")
        for name, kinds in _KINDS.items():
            # type() and not isinstance(): to the latter True is a number.
            if type(card.get(name)) not in kinds:
                raise ValueError(f"{name} is {card.get(name)!r}")
        made = card.get("provenance")
        provenance = None if made is None else Provenance(**made)
        return cls(**{name: card[name] for name in _KINDS}, provenance=provenance)


_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("alpha", "delta", "size"), (int, float)),
    **dict.fromkeys(("n", "images", "seed"), (int,)),
    **dict.fromkeys(("rule", "family", "date", "version"), (str,)),
    "grouped": (bool,),
}


def check_raw(bounds: Bounds) -> None:
    """Raise CalibrationError when `bounds` have been calibrated already."""
    if bounds.guarantee is not None:
        raise CalibrationError(
            "bounds: they have been calibrated already; pass the raw bounds, as the model made them"
        )
