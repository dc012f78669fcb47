r"""Populations of images whose risk at every interval size is known in closed form.

A `Population` says how far truths lie from estimates, in multiples of the raw half-widths. A
`Stage` turns that into real bounds and true pictures for one family, so that the family's own code
is run on them; under it, the critical values are a known monotone map of those multiples, and so
the risk at a size of the family is the population's at the `plain` size. `Uneven` bounds are too
narrow on one side, or where they are narrow, which shapes are there to put right.

The images of a trial are the rows of one picture, which is quicker than a picture for each.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64
from numpy import ndarray
from numpy.random import Generator
from torch import Tensor

from certes.intervals.bounds import Bounds
from certes.intervals.families import FAMILIES
from certes.intervals.probability import binomial_above, log_normal_cdf, normal_miss
from certes.intervals.shapes import Shape

_PIXELS = 64
_FURTHEST = 50.0  # multiples of a half-width: the risk there is far below any alpha


class Population(ABC):
    """Images whose risk at every interval size is known in closed form.

    Attributes:
        name: what the population is called.
        pixels: pixels of an image.
    """

    name: str
    pixels: int

    def draw(self, rng: Generator, n: int) -> Float64[ndarray, "n m"]:
        """Critical values of n independent images."""
        return self.critical(rng, rng.standard_normal(n))

    @abstractmethod
    def critical(self, rng: Generator, z: Float64[ndarray, " n"]) -> Float64[ndarray, "n m"]:
        """Critical values of images of difficulty z, which is standard normal over images."""

    @abstractmethod
    def risk(self, size: float) -> float:
        """Expected share of pixels whose critical value exceeds `size`."""

    @abstractmethod
    def share_of_bad(self, size: float, tolerance: float) -> float:
        """Probability of an image with more than a share `tolerance` of pixels beyond `size`."""


class Lognormal(Population):
    r"""Pixel errors :math:`s_i |e|` with e standard normal and :math:`s_i = e^{\tau z_i}`.

    The risk is :math:`E_s[\mathrm{erfc}(\lambda / (s \sqrt 2))]`, and given s the missed pixels of
    an image are binomial; the trapezoid rule over z is exact to rounding for such smooth integrands
    that vanish at its ends.
    """

    pixels = _PIXELS

    def __init__(self, tau: float) -> None:
        self.tau = tau
        self.name = f"lognormal, tau {tau:g}"
        nodes = np.linspace(-9, 9, 145) if tau else np.zeros(1)
        weights = np.exp(-(nodes**2) / 2)
        self._scales, self._weights = np.exp(tau * nodes), weights / weights.sum()

    def critical(self, rng: Generator, z: Float64[ndarray, " n"]) -> Float64[ndarray, "n m"]:
        return np.exp(self.tau * z)[:, None] * np.abs(rng.standard_normal((len(z), _PIXELS)))

    def risk(self, size: float) -> float:
        return float(self._weights @ normal_miss(max(size, 0.0) / self._scales))

    def share_of_bad(self, size: float, tolerance: float) -> float:
        missed = normal_miss(max(size, 0.0) / self._scales)
        return float(self._weights @ binomial_above(tolerance * _PIXELS, _PIXELS, missed))


class AllOrNothing(Population):
    r"""Images covered whole or missed whole: the worst case, with risk :math:`e^{-\lambda}`."""

    name = "all or nothing"
    pixels = 1

    def critical(self, rng: Generator, z: Float64[ndarray, " n"]) -> Float64[ndarray, "n m"]:
        return -log_normal_cdf(-z)[:, None]

    def risk(self, size: float) -> float:
        return math.exp(-max(size, 0.0))

    def share_of_bad(self, size: float, tolerance: float) -> float:
        return self.risk(size)


def smallest_size(risk: Callable[[float], float], alpha: float) -> float:
    """The smallest size at which a falling risk is at most alpha: what an oracle would choose."""
    low, high = 0.0, 1.0
    while risk(high) > alpha:
        high *= 2
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if risk(middle) > alpha else (low, middle)
    return high


@dataclass(frozen=True, eq=False)
class Stage:
    """Bounds of n images, as rows of one picture, and how far from them truths are put.

    Args:
        family: name of the family.
        bounds: one picture (1, 1, n, m).
        above: which pixels have their truth above the estimate.
        step: of the map below.
        offset: a pixel of multiple c has the critical value ``offset + step c`` under the family.
    """

    family: str
    bounds: Bounds
    above: Bool[ndarray, "n m"]
    step: float
    offset: float

    def plain(self, size: float) -> float:
        """The multiple that a size of the family stands for."""
        return (size - self.offset) / self.step

    def critical(self, multiples: Float64[ndarray, "n m"]) -> Float32[ndarray, "n m"]:
        """What the family says of truths at these multiples of the half-widths."""
        found = FAMILIES[self.family].critical(self.bounds, self.truth(multiples))
        return found.reshape(multiples.shape)

    def truth(self, multiples: Float64[ndarray, "n m"]) -> Float[Tensor, "1 1 n m"]:
        """True pictures whose critical values are the map of `multiples`, but for rounding."""
        size = self.offset + self.step * np.minimum(multiples, _FURTHEST)
        lower, estimate, upper = (_double(part) for part in _parts(self.bounds))
        match self.family:
            case "scale":
                ends = estimate - size * (estimate - lower), estimate + size * (upper - estimate)
            case "std":
                half = size * (upper - lower) / 2
                ends = estimate - half, estimate + half
            case "additive":
                ends = lower - size, upper + size
            case "ratio":
                ends = lower / size, upper * size
            case _:
                ends = self._on_ladder(0, size), self._on_ladder(1, size)
        return _picture(np.where(self.above, ends[1], ends[0]))

    def _on_ladder(self, side: int, size: Float64[ndarray, "n m"]) -> Float64[ndarray, "n m"]:
        """Ends between the estimate and two rungs: half of the way to the outer is the inner."""
        assert self.bounds.rungs is not None
        estimate = _double(self.bounds.estimate)
        inner, outer = (_double(self.bounds.rungs[j, side]) - estimate for j in range(2))
        within = np.where(size < 0.5, 2 * size * inner, inner + (2 * size - 1) * (outer - inner))
        return estimate + np.where(size > 1, size * outer, within)


# What keeps all truths in [0, 1] up to the furthest multiple, and on their side of the estimate:
# smallest and largest half-width, step and offset.
_SETTINGS: dict[str, tuple[float, float, float, float]] = {
    "scale": (0.003, 0.008, 1.0, 0.0),
    "std": (0.003, 0.008, 1.0, 0.0),
    "additive": (0.02, 0.1, 0.005, -0.01),
    "ratio": (0.06, 0.1, 0.015, 0.9),
    "level": (0.003, 0.008, 0.5, 0.0),
}


@lru_cache(maxsize=32)
def stage(family: str, n: int, pixels: int) -> Stage:
    """Bounds of n images under a family, of random half-widths, the two sides unequal."""
    rng = np.random.default_rng(0)
    smallest, largest, step, offset = _SETTINGS[family]
    estimate = rng.uniform(0.44, 0.46, (n, pixels))
    below, above = rng.uniform(smallest, largest, (2, n, pixels))
    rungs = None
    if family == "level":
        inner = rng.uniform(0.3, 0.7, (n, pixels))
        rungs = torch.stack(
            [
                torch.stack([_picture(estimate - s * below), _picture(estimate + s * above)])
                for s in (inner, 1.0)
            ]
        )
    bounds = Bounds(
        _picture(estimate - below), _picture(estimate), _picture(estimate + above), rungs=rungs
    )
    return Stage(family, bounds, rng.random((n, pixels)) < 0.5, step, offset)


@dataclass(frozen=True)
class Uneven:
    """Bounds that are wrong by another factor on each side and in each quarter of the widths.

    All images have the same bounds; the columns of the picture differ. Under `scale`, the critical
    value of a pixel is its multiple times the factor of its column.

    Args:
        population: the multiples.
        below: factor by which truths below the estimate lie further out than those above it.
        narrow: factor by which they lie further out in the narrowest half of the widths.
    """

    population: Lognormal
    below: float
    narrow: float

    @property
    def name(self) -> str:
        """What the population is called."""
        return f"{self.population.name}, x{self.below:g} below, x{self.narrow:g} where narrow"

    def bounds(self, n: int) -> Bounds:
        """Of n images, as rows of one picture."""
        return _uneven_bounds(n)

    def truth(self, rng: Generator, n: int) -> Float[Tensor, "1 1 n m"]:
        """True pictures of n independent images."""
        size = np.minimum(self.population.draw(rng, n) * self._factors(), _FURTHEST)
        return _picture(0.5 + np.where(_ABOVE, 1, -1) * size * _HALF)

    def risk(self, size: float, shape: Shape | None = None) -> float:
        """Expected share of missed pixels at a size of the family `scale` under a shape."""
        below, above = self._weights(shape)
        sizes = size * np.where(_ABOVE, above, below) / self._factors()
        return float(np.mean([self.population.risk(each) for each in sizes.tolist()]))

    def width(self, size: float, shape: Shape | None = None) -> float:
        """Mean width of the intervals at a size under a shape, image units."""
        below, above = self._weights(shape)
        return size * float(((below + above) * _HALF).mean())

    def _weights(
        self, shape: Shape | None
    ) -> tuple[Float64[ndarray, " m"], Float64[ndarray, " m"]]:
        pair = (1.0, 1.0) if shape is None else shape.weights(self.bounds(1), 0)
        below, above = (np.broadcast_to(np.ravel(weight), _PIXELS) for weight in pair)
        return below, above

    def _factors(self) -> Float64[ndarray, " m"]:
        return np.where(_ABOVE, 1.0, self.below) * np.where(_NARROW, self.narrow, 1.0)


_COLUMNS = np.arange(_PIXELS)
_ABOVE = _COLUMNS % 2 == 1
_NARROW = _COLUMNS < _PIXELS // 2
_HALF = 0.002 + 0.004 * _COLUMNS / _PIXELS


@lru_cache(maxsize=32)
def _uneven_bounds(n: int) -> Bounds:
    half = np.broadcast_to(_HALF, (n, _PIXELS))
    estimate = np.full((n, _PIXELS), 0.5)
    return Bounds(_picture(estimate - half), _picture(estimate), _picture(estimate + half))


def _picture(values: Float64[ndarray, "n m"]) -> Float[Tensor, "1 1 n m"]:
    return torch.as_tensor(values, dtype=torch.float32)[None, None]


def _double(picture: Float[Tensor, "*any n m"]) -> Float64[ndarray, "n m"]:
    return picture.reshape(picture.shape[-2:]).double().numpy()


def _parts(bounds: Bounds) -> tuple[Tensor, Tensor, Tensor]:
    return bounds.lower, bounds.estimate, bounds.upper
