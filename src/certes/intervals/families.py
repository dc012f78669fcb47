r"""Nested families: one number lambda turns raw bounds into intervals that grow with it.

Each family has two sides that fit together exactly: `critical`, the smallest lambda at which the
interval of a pixel covers its true value, and `apply`, the intervals at one lambda. Whatever
lambda is, a pixel is inside after `apply` if its critical value is at most lambda, floating point
included: the arithmetic is double, criticals are rounded up and ends outwards to float32.

With a shape (`certes.intervals.shapes`) lambda is multiplied by a weight before it is used, one for
the lower ends and one for the upper, which may differ from pixel to pixel. A pixel's critical value
is then divided by the weight of the side on which its truth lies.

Everything is computed on the CPU, in stretches of a picture: not every accelerator has doubles,
cards made on one device must hold on another, and a short stretch in doubles stays in the cache.

Sources: Angelopoulos et al. 2022 (im2im-uq) for `scale` and `std`; Romano, Patterson, Candes 2019
(CQR) for `additive`; Horwitz and Hoshen 2022 (Conffusion), the published code, for `ratio`; Gupta,
Kuchibhotla, Ramdas 2022 (nested conformal prediction) for families of quantile levels, `level`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from numpy import ndarray
from torch import Tensor

from certes.errors import InputError
from certes.intervals.bounds import Bounds, check_truth
from certes.intervals.critical import up
from certes.intervals.shapes import Shape, Weight

# Values are in [0, 1], so this exceeds what a few float64 roundings can add up to, by far less
# than a float32 can show.
_SLACK = 2.0**-50

# The same for a position on the ladder of rungs, of which there may be many.
_LADDER_SLACK = 2.0**-44

# A sixteenth of a grey level of an 8-bit picture. An interval of zero width could never be widened
# by a factor; one much narrower than what a picture can show would need an enormous factor for an
# invisible error, and a few such pixels would then set the scale for all others.
MIN_HALF_WIDTH = 1 / 255 / 16

# Smaller sizes of `ratio` are taken for this one: a division by it stays finite.
_SMALLEST_RATIO = 2.0**-100

_STRETCH = 2**15  # pixels worked on at once: about ten arrays of them fit a core's cache

Values = Float64[ndarray, " m"]
Size = Values | float
T = TypeVar("T")


@dataclass(frozen=True)
class Stretch:
    """Some pixels of one picture, in doubles."""

    lower: Values
    estimate: Values
    upper: Values
    rungs: Float64[ndarray, "r 2 m"]


class Family(ABC):
    """A family of intervals that are nested in lambda."""

    name: ClassVar[str]
    needs_rungs: ClassVar[bool] = False
    takes_shape: ClassVar[bool] = True

    def critical(
        self, bounds: Bounds, truth: Float[Tensor, "b c h w"], shape: Shape | None = None
    ) -> Float32[ndarray, "b c h w"]:
        """Smallest lambda at which each pixel is covered, rounded up to float32.

        Args:
            bounds: raw bounds (B, C, H, W).
            truth: true pictures, same shape, values in [0, 1].
            shape: weights of the sides and of parts of the picture; by default all alike.

        Raises: InputError for a truth that does not fit the bounds, bounds without what this family
            needs, or a shape where it has no meaning.
        """
        check_truth(truth, bounds)
        rows = each_picture(bounds, lambda i: self.critical_of(bounds, truth, i, shape))
        return np.stack(rows)

    def critical_of(
        self, bounds: Bounds, truth: Float[Tensor, "b c h w"], i: int, shape: Shape | None = None
    ) -> Float32[ndarray, "c h w"]:
        """The critical values of picture `i` alone; `truth` must have been checked."""
        self.check(bounds, shape)
        below, above = _weights(bounds, i, shape)
        y = _flat(truth[i])
        critical = np.empty(y.size, np.float32)
        for part, pixels in _stretches(bounds, i):
            values = y[part].astype(np.float64)
            found = self._critical(pixels, values)
            if shape is not None:
                weight = np.where(values > pixels.estimate, _cut(above, part), _cut(below, part))
                found = found / weight * (1 + _SLACK)
            critical[part] = up(found)
        return critical.reshape(truth.shape[1:])

    def apply(self, bounds: Bounds, size: float, shape: Shape | None = None) -> Bounds:
        """The intervals at lambda = `size`, cut to [0, 1] (where the truth is, so none is lost).

        Raises: InputError for bounds without what this family needs, or a shape where it has no
            meaning.
        """
        self.check(bounds, shape)
        ends = np.empty((2, *bounds.estimate.shape), np.float32)

        def fill(i: int) -> None:
            below, above = (size * weight for weight in _weights(bounds, i, shape))
            lower, upper = ends[0, i].reshape(-1), ends[1, i].reshape(-1)
            for part, pixels in _stretches(bounds, i):
                low, high = self._edges(pixels, _cut(below, part), _cut(above, part))
                lower[part], upper[part] = -up(-low), up(high)

        each_picture(bounds, fill)
        lower, upper = torch.as_tensor(ends).clamp(0, 1).to(bounds.estimate.device)
        return Bounds(lower, bounds.estimate.clamp(0, 1), upper, bounds.provenance)

    def check(self, bounds: Bounds, shape: Shape | None) -> None:
        """Raise InputError when this family cannot work with these bounds or this shape."""
        if self.needs_rungs and bounds.rungs is None:
            raise InputError(
                f"bounds: the family {self.name!r} needs rungs, these have none; make them by"
                " posterior.bounds(alpha, rungs=True)"
            )
        if shape is not None and not self.takes_shape:
            raise InputError(
                f"shape: the family {self.name!r} takes none, its lambda is an amount and may be"
                " negative; use 'scale'"
            )

    @abstractmethod
    def _critical(self, pixels: Stretch, y: Values) -> Values:
        """Critical values, high by at least what rounding in `_edges` can cost."""

    @abstractmethod
    def _edges(self, pixels: Stretch, below: Size, above: Size) -> tuple[Values, Values]:
        """Ends that enclose the estimate and never move inwards as their size grows."""


class Scale(Family):
    r"""``[f - lambda (f - l), f + lambda (u - f)]``: the bounds stretched about the estimate f.

    Half-widths f - l and u - f are at least `MIN_HALF_WIDTH`; lambda >= 0.
    """

    name = "scale"

    def _critical(self, pixels: Stretch, y: Values) -> Values:
        below, above = self._half_widths(pixels)
        error = y - pixels.estimate
        return np.maximum(error / above, -error / below) * (1 + _SLACK)

    def _edges(self, pixels: Stretch, below: Size, above: Size) -> tuple[Values, Values]:
        half_below, half_above = self._half_widths(pixels)
        return pixels.estimate - below * half_below, pixels.estimate + above * half_above

    def _half_widths(self, pixels: Stretch) -> tuple[Values, Values]:
        return (
            np.maximum(pixels.estimate - pixels.lower, MIN_HALF_WIDTH),
            np.maximum(pixels.upper - pixels.estimate, MIN_HALF_WIDTH),
        )


class Std(Scale):
    r"""``f ± lambda s``, with s half the width of the bounds, at least `MIN_HALF_WIDTH`.

    For heads that say a standard deviation and for that of posterior samples, given as the bounds
    ``f ± s``; of other bounds it forgets how the two sides differ. lambda >= 0.
    """

    name = "std"

    def _half_widths(self, pixels: Stretch) -> tuple[Values, Values]:
        half = np.maximum((pixels.upper - pixels.lower) / 2, MIN_HALF_WIDTH)
        return half, half


class Additive(Family):
    r"""``[l - lambda, u + lambda]``: the same amount added to every end.

    A negative lambda narrows the bounds, each end as far as the estimate and no further; thus the
    family stays nested. At lambda = -1 nothing but the estimate is left. It takes no shape: where
    lambda may be negative, a larger weight would narrow what it is to widen.
    """

    name = "additive"
    takes_shape = False

    def _critical(self, pixels: Stretch, y: Values) -> Values:
        missing = np.where(y > pixels.estimate, y - pixels.upper, pixels.lower - y) + _SLACK
        return np.where(y == pixels.estimate, -1.0, np.maximum(missing, -1.0))

    def _edges(self, pixels: Stretch, below: Size, above: Size) -> tuple[Values, Values]:
        return (
            np.minimum(pixels.lower - below, pixels.estimate),
            np.maximum(pixels.upper + above, pixels.estimate),
        )


class Ratio(Family):
    r"""``[l / lambda, u lambda]`` for bounds >= 0, no end ever crossing the estimate; lambda > 0.

    The family of the published Conffusion code, for comparison with it. What its text says,
    ``[lambda l, lambda u]``, is not nested: as lambda grows the lower end rises as well, past
    values that a smaller lambda covered, so that no risk is controlled by making lambda large.

    Nested, this one still steps by brightness, and does not mirror with the picture. Dark pixels
    never widen: no lambda carries u = 0 up to a brighter truth or l > 0 down to a black one. The
    critical value of such a pixel is infinite; where there are many, nothing can be certified.
    """

    name = "ratio"

    def _critical(self, pixels: Stretch, y: Values) -> Values:
        lower, estimate, upper = self._positive(pixels)
        with np.errstate(divide="ignore", invalid="ignore"):
            rise, fall = y / upper, np.where(lower > 0, lower / y, 0.0)
        critical = np.where(y > estimate, rise, fall) * (1 + _SLACK)
        return np.where(y == estimate, 0.0, critical)

    def _edges(self, pixels: Stretch, below: Size, above: Size) -> tuple[Values, Values]:
        lower, estimate, upper = self._positive(pixels)
        return (
            np.minimum(lower / np.maximum(below, _SMALLEST_RATIO), estimate),
            np.maximum(upper * np.maximum(above, _SMALLEST_RATIO), estimate),
        )

    def _positive(self, pixels: Stretch) -> Iterator[Values]:
        return (np.maximum(v, 0) for v in (pixels.lower, pixels.estimate, pixels.upper))


class Level(Family):
    r"""The rungs of the bounds as a ladder: lambda = 0 is the estimate, j / r the j-th of r rungs.

    Between rungs the ends move in straight lines. Where the rungs are order statistics of posterior
    samples, lambda is (nearly) the probability that the samples give to the interval, and a skewed
    posterior keeps its skew at every size. Beyond 1 the outermost rung, with half-widths of at
    least `MIN_HALF_WIDTH`, is stretched about the estimate as in `Scale`. lambda >= 0.
    """

    name = "level"
    needs_rungs = True

    def _critical(self, pixels: Stretch, y: Values) -> Values:
        above = y > pixels.estimate
        lower, upper = self._ladders(pixels)
        ladder = np.where(above, upper, lower)
        mirrored: Values = np.where(above, -y, y)
        rungs, estimate, end = len(ladder) - 1, ladder[0], ladder[-1]
        # The piece in which y lies: from a rung that does not reach it to one that does.
        piece = np.minimum((ladder[1:] > mirrored).sum(axis=0), rungs - 1)
        inner, outer = _steps(ladder, piece)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = (inner - mirrored) / (inner - outer)
            beyond = (estimate - mirrored) / (estimate - end) * (1 + _SLACK)
        within: Values = (piece + share) / rungs + _LADDER_SLACK
        return np.where(mirrored == estimate, 0.0, np.where(mirrored < end, beyond, within))

    def _edges(self, pixels: Stretch, below: Size, above: Size) -> tuple[Values, Values]:
        lower, upper = self._ladders(pixels)
        return self._end(lower, below), -self._end(upper, above)

    @staticmethod
    def _ladders(
        pixels: Stretch,
    ) -> tuple[Float64[ndarray, "rungs m"], Float64[ndarray, "rungs m"]]:
        """Ends from the estimate outwards, lower ones and, mirrored, upper ones: both descend."""
        lower = np.concatenate([pixels.estimate[None], pixels.rungs[:, 0]])
        upper = -np.concatenate([pixels.estimate[None], pixels.rungs[:, 1]])
        for ladder in (lower, upper):
            np.minimum(ladder[-1], ladder[0] - MIN_HALF_WIDTH, out=ladder[-1])
        return lower, upper

    @staticmethod
    def _end(ladder: Float64[ndarray, "rungs m"], size: Size) -> Values:
        """The end of a descending ladder at lambda = `size`."""
        rungs, estimate, end = len(ladder) - 1, ladder[0], ladder[-1]
        position = np.broadcast_to(np.clip(size, 0, 1) * rungs, end.shape)
        piece = np.minimum(position.astype(np.int64), rungs - 1)
        inner, outer = _steps(ladder, piece)
        # Rounding must carry neither of them past the rung at which the next piece starts.
        within = np.maximum(inner - (position - piece) * (inner - outer), outer)
        beyond = np.minimum(estimate - size * (estimate - end), end)
        return np.where(np.greater(size, 1), beyond, within)


FAMILIES: dict[str, Family] = {
    family.name: family for family in (Scale(), Additive(), Ratio(), Std(), Level())
}


def family_named(name: str) -> Family:
    """The family called `name`. Raises: InputError if there is none."""
    if name not in FAMILIES:
        raise InputError(f"family: {name!r} is unknown, known are {', '.join(FAMILIES)}")
    return FAMILIES[name]


def each_picture(bounds: Bounds, job: Callable[[int], T]) -> list[T]:
    """Do a job for every picture; numpy lets threads run side by side, so large ones share them."""
    numbers = range(len(bounds.estimate))
    if bounds.estimate[0].numel() < _STRETCH:
        return [job(i) for i in numbers]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return list(pool.map(job, numbers))


def _stretches(bounds: Bounds, i: int) -> Iterator[tuple[slice, Stretch]]:
    """Picture i, stretch by stretch, and where each lies in the flattened picture."""
    ends = [_flat(part[i]) for part in (bounds.lower, bounds.estimate, bounds.upper)]
    rungs = np.empty((0, 2, ends[0].size), np.float32)
    if bounds.rungs is not None:
        rungs = bounds.rungs[:, :, i].flatten(2).cpu().numpy()
    for start in range(0, ends[0].size, _STRETCH):
        part = slice(start, start + _STRETCH)
        lower, estimate, upper = (end[part].astype(np.float64) for end in ends)
        yield part, Stretch(lower, estimate, upper, rungs[..., part].astype(np.float64))


def _weights(bounds: Bounds, i: int, shape: Shape | None) -> tuple[Size, Size]:
    """Weights of lambda below and above the estimate of picture i, flattened."""
    if shape is None:
        return 1.0, 1.0
    below, above = shape.weights(bounds, i)
    return _flattened(below), _flattened(above)


def _flattened(weight: Weight) -> Size:
    return weight.ravel() if isinstance(weight, ndarray) else float(weight)


def _flat(picture: Float[Tensor, "c h w"]) -> Float32[ndarray, " m"]:
    return picture.reshape(-1).cpu().numpy()


def _cut(weight: Size, part: slice) -> Size:
    return weight[part] if isinstance(weight, ndarray) else weight


def _steps(
    ladder: Float64[ndarray, "rungs m"], piece: Float64[ndarray, " m"]
) -> tuple[Values, Values]:
    """The two rungs between which each pixel's piece of the ladder lies."""
    inner = np.take_along_axis(ladder, piece[None], axis=0)[0]
    return inner, np.take_along_axis(ladder, piece[None] + 1, axis=0)[0]
