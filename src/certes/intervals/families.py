r"""Nested families: one number lambda turns raw bounds into intervals that grow with it.

Each family has two sides that fit together exactly: `critical`, the smallest lambda at which the
interval of a pixel covers its true value, and `apply`, the intervals at one lambda. Whatever
lambda is, a pixel is inside after `apply` if its critical value is at most lambda, floating point
included: the arithmetic is double, criticals are rounded up and ends outwards to float32.

Everything is computed on the CPU, picture by picture: not every accelerator has doubles, cards made
on one device must hold on another, and one picture in doubles stays in the cache.

Sources: Angelopoulos et al. 2022 (im2im-uq) for `scale`; Romano, Patterson, Candes 2019 (CQR) for
`additive`. Neither scales with brightness, as the published Conffusion family [l/lambda, u lambda]
does, under which dark pixels never widen.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from numpy import ndarray
from torch import Tensor

from certes.errors import InputError
from certes.intervals.bounds import Bounds, check_truth

# Values are in [0, 1], so this exceeds what a few float64 roundings can add up to, by far less
# than a float32 can show.
_SLACK = 2.0**-50

# A sixteenth of a grey level of an 8-bit picture. An interval of zero width could never be widened
# by a factor; one much narrower than what a picture can show would need an enormous factor for an
# invisible error, and a few such pixels would then set the scale for all others.
MIN_HALF_WIDTH = 1 / 255 / 16

Picture = Float64[ndarray, "c h w"]


class Family(ABC):
    """A family of intervals that are nested in lambda."""

    name: ClassVar[str]

    def critical(
        self, bounds: Bounds, truth: Float[Tensor, "b c h w"]
    ) -> Float32[ndarray, "b c h w"]:
        """Smallest lambda at which each pixel is covered, rounded up to float32.

        Args:
            bounds: raw bounds (B, C, H, W).
            truth: true pictures, same shape, values in [0, 1].
        """
        check_truth(truth, bounds)
        critical = np.empty(truth.shape, np.float32)
        for i, y in enumerate(truth.cpu().numpy()):
            critical[i] = _up(self._critical(*_picture(bounds, i), y.astype(np.float64)))
        return critical

    def apply(self, bounds: Bounds, size: float) -> Bounds:
        """The intervals at lambda = `size`, cut to [0, 1] (where the truth is, so none is lost)."""
        lower, upper = (np.empty(bounds.estimate.shape, np.float32) for _ in range(2))
        for i in range(len(lower)):
            low, high = self._edges(*_picture(bounds, i), size)
            lower[i], upper[i] = _down(low), _up(high)
        device = bounds.estimate.device
        return Bounds(
            torch.as_tensor(lower).clamp(0, 1).to(device),
            bounds.estimate.clamp(0, 1),
            torch.as_tensor(upper).clamp(0, 1).to(device),
            bounds.provenance,
        )

    @abstractmethod
    def _critical(self, lower: Picture, estimate: Picture, upper: Picture, y: Picture) -> Picture:
        """Critical values of one picture, high by at least what rounding in `_edges` can cost."""

    @abstractmethod
    def _edges(
        self, lower: Picture, estimate: Picture, upper: Picture, size: float
    ) -> tuple[Picture, Picture]:
        """Ends that enclose the estimate, never moving inwards as `size` grows."""


class Scale(Family):
    r"""``[f - lambda (f - l), f + lambda (u - f)]``: the bounds stretched about the estimate f.

    Half-widths f - l and u - f are at least `MIN_HALF_WIDTH`; lambda >= 0.
    """

    name = "scale"

    def _critical(self, lower: Picture, estimate: Picture, upper: Picture, y: Picture) -> Picture:
        below, above = _half_widths(lower, estimate, upper)
        error = y - estimate
        return np.maximum(error / above, -error / below) * (1 + _SLACK)

    def _edges(
        self, lower: Picture, estimate: Picture, upper: Picture, size: float
    ) -> tuple[Picture, Picture]:
        below, above = _half_widths(lower, estimate, upper)
        return estimate - size * below, estimate + size * above


class Additive(Family):
    r"""``[l - lambda, u + lambda]``: the same amount added to every end.

    A negative lambda narrows the bounds, each end as far as the estimate and no further; thus the
    family stays nested. At lambda = -1 nothing but the estimate is left.
    """

    name = "additive"

    def _critical(self, lower: Picture, estimate: Picture, upper: Picture, y: Picture) -> Picture:
        missing = np.where(y > estimate, y - upper, lower - y) + _SLACK
        return np.where(y == estimate, -1.0, np.maximum(missing, -1.0))

    def _edges(
        self, lower: Picture, estimate: Picture, upper: Picture, size: float
    ) -> tuple[Picture, Picture]:
        return np.minimum(lower - size, estimate), np.maximum(upper + size, estimate)


FAMILIES: dict[str, Family] = {family.name: family for family in (Scale(), Additive())}


def family_named(name: str) -> Family:
    """The family called `name`. Raises: InputError if there is none."""
    if name not in FAMILIES:
        raise InputError(f"family: {name!r} is unknown, known are {', '.join(FAMILIES)}")
    return FAMILIES[name]


def _picture(bounds: Bounds, i: int) -> tuple[Picture, Picture, Picture]:
    """Lower end, estimate and upper end of picture i, in doubles."""
    parts = (bounds.lower, bounds.estimate, bounds.upper)
    lower, estimate, upper = (part[i].cpu().numpy().astype(np.float64) for part in parts)
    return lower, estimate, upper


def _half_widths(lower: Picture, estimate: Picture, upper: Picture) -> tuple[Picture, Picture]:
    return (
        np.maximum(estimate - lower, MIN_HALF_WIDTH),
        np.maximum(upper - estimate, MIN_HALF_WIDTH),
    )


def _up(x: Picture) -> Float32[ndarray, "c h w"]:
    """The smallest float32 that is not below x."""
    near = x.astype(np.float32)
    return np.where(near < x, np.nextafter(near, np.float32(np.inf)), near)


def _down(x: Picture) -> Float32[ndarray, "c h w"]:
    """The largest float32 that is not above x."""
    return -_up(-x)
