r"""Shapes: interval sizes that differ between the sides of the estimate or between pixels.

A shape multiplies lambda by a weight before a family uses it. The family stays nested in the one
lambda that is left, so every rule works on it as before; what remains is to find good weights
without spending the guarantee: `certes.intervals.sides` tries a few and pays for each with a share
of delta, `certes.intervals.strata` looks for them on images of their own.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, cast

import numpy as np
from jaxtyping import Float64, Int
from numpy import ndarray

from certes.errors import InputError
from certes.intervals.bounds import Bounds

Weight = Float64[ndarray, "c h w"] | float


class Shape(ABC):
    """Weights of lambda by side and pixel."""

    name: ClassVar[str]

    @abstractmethod
    def weights(self, bounds: Bounds, i: int) -> tuple[Weight, Weight]:
        """Weights of lambda below and above the estimate, for picture `i`: (c, h, w) or numbers."""

    @abstractmethod
    def to_config(self) -> dict[str, Any]:
        """The shape as JSON types, for `shape_from_config`."""


@dataclass(frozen=True)
class Sides(Shape):
    """One weight below the estimate, another above.

    Args:
        below, above: weights, above 0.

    Raises: InputError for weights that are not positive and finite.
    """

    below: float
    above: float

    name = "sides"

    def __post_init__(self) -> None:
        _check_weights("sides", (self.below, self.above))

    def weights(self, bounds: Bounds, i: int) -> tuple[Weight, Weight]:
        return self.below, self.above

    def to_config(self) -> dict[str, Any]:
        return {"name": self.name, "below": self.below, "above": self.above}


@dataclass(frozen=True)
class Strata(Shape):
    """One weight for each stratum of the raw width ``upper - lower``, on both sides.

    Args:
        edges: widths that divide the strata, ascending, image units. A width equal to an edge
            belongs to the wider stratum.
        by_stratum: weights, above 0, narrowest stratum first; one more than edges.

    Raises: InputError for weights that are not positive and finite, or edges that do not fit.
    """

    edges: tuple[float, ...]
    by_stratum: tuple[float, ...]

    name = "strata"

    def __post_init__(self) -> None:
        _check_weights("strata", self.by_stratum)
        ascending = all(a < b for a, b in pairwise(self.edges))
        if not (ascending and all(map(math.isfinite, self.edges))):
            raise InputError(f"strata: edges {self.edges} are not ascending finite numbers")
        if len(self.by_stratum) != len(self.edges) + 1:
            raise InputError(
                f"strata: {len(self.by_stratum)} weights for {len(self.edges)} edges, one more than"
                " edges is wanted"
            )

    def weights(self, bounds: Bounds, i: int) -> tuple[Weight, Weight]:
        widths = (bounds.upper[i].double() - bounds.lower[i].double()).cpu().numpy()
        weight = np.array(self.by_stratum)[self.strata(widths)]
        return weight, weight

    def strata(self, widths: Float64[ndarray, " *shape"]) -> Int[ndarray, " *shape"]:
        """Number of the stratum of each width."""
        return np.searchsorted(np.array(self.edges), widths, side="right")

    def to_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "edges": list(self.edges),
            "by_stratum": list(self.by_stratum),
        }


def shape_from_config(config: Any) -> Shape:
    """The shape that `Shape.to_config` described. Raises: InputError for anything else."""
    try:
        given = dict(cast(dict[str, Any], config))
        name = given.pop("name")
        if name == Sides.name:
            return Sides(**{side: float(weight) for side, weight in given.items()})
        if name == Strata.name:
            return Strata(**{part: tuple(map(float, values)) for part, values in given.items()})
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"shape: {config!r} is not a shape ({error})") from error
    raise InputError(f"shape: {name!r} is unknown, known are {Sides.name}, {Strata.name}")


def _check_weights(name: str, weights: tuple[float, ...]) -> None:
    if not all(math.isfinite(weight) and weight > 0 for weight in weights):
        raise InputError(f"{name}: weights must be above 0 and finite, these are {weights}")
