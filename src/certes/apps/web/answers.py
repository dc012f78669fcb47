"""What a result says of a pixel and of a region, in numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from certes.apps.web.runs import Result
from certes.errors import InputError
from certes.intervals.bounds import Bounds
from certes.intervals.measures import mean_intensity
from certes.intervals.quantiles import sample_bounds


@dataclass(frozen=True)
class Answer:
    """An interval for one number, image units.

    Args:
        lower, estimate, upper: its ends and what lies between.
        samples: the numbers of the samples behind it; empty where there are none.
        truth: the true number, where it is known.
    """

    lower: float
    estimate: float
    upper: float
    samples: tuple[float, ...]
    truth: float | None


@dataclass(frozen=True)
class Region:
    """A box of pixels, both corners in it."""

    left: int
    top: int
    right: int
    bottom: int

    @classmethod
    def between(cls, first: tuple[int, int], second: tuple[int, int]) -> Region:
        """The box of two corners (x, y), in any order."""
        (x0, y0), (x1, y1) = first, second
        return cls(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))

    @property
    def pixels(self) -> int:
        """How many there are in it."""
        return (self.right - self.left + 1) * (self.bottom - self.top + 1)


def channels_at(result: Result, x: int, y: int) -> list[Answer]:
    """The interval of each channel of a pixel.

    Raises: InputError for a pixel outside the picture.
    """
    bounds = _bounds(result)
    _check_inside(bounds, x, y)
    return [_channel(result, bounds, c, y, x) for c in range(bounds.estimate.shape[1])]


def mean_of(result: Result, region: Region, alpha: float) -> Answer:
    """The interval of the mean over a region and all channels, from that of every sample.

    It is raw: calibration cards speak of pixels, not of means.

    Raises: InputError for a region outside the picture, or a model that draws no samples.
    """
    bounds, samples = _bounds(result), result.kept.samples
    _check_inside(bounds, region.left, region.top)
    _check_inside(bounds, region.right, region.bottom)
    if samples is None:
        raise InputError(
            "region: this model says the bounds of pixels and draws no samples, which the interval "
            "of a mean is made from; take another model"
        )
    height, width = samples.shape[2:]
    inside = torch.zeros(1, 1, height, width, dtype=torch.bool)
    inside[..., region.top : region.bottom + 1, region.left : region.right + 1] = True
    measure = mean_intensity(inside)
    values = torch.as_tensor(measure.of_samples(samples[:, None])[:, 0]).float()
    interval = sample_bounds(values.reshape(-1, 1, 1, 1, 1), alpha)
    truth = result.kept.truth
    return Answer(
        float(interval.lower),
        float(interval.estimate),
        float(interval.upper),
        _floats(values),
        None if truth is None else float(measure(truth[None])[0]),
    )


def _channel(result: Result, bounds: Bounds, c: int, y: int, x: int) -> Answer:
    samples, truth = result.kept.samples, result.kept.truth
    return Answer(
        _value(bounds.lower[0], c, y, x),
        _value(bounds.estimate[0], c, y, x),
        _value(bounds.upper[0], c, y, x),
        () if samples is None else _floats(samples[:, c, y, x]),
        None if truth is None else _value(truth, c, y, x),
    )


def _floats(values: Float[Tensor, " k"]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _value(picture: Float[Tensor, "c h w"], c: int, y: int, x: int) -> float:
    return float(picture[c, y, x])


def _bounds(result: Result) -> Bounds:
    assert result.kept.bounds is not None
    return result.kept.bounds


def _check_inside(bounds: Bounds, x: int, y: int) -> None:
    height, width = bounds.estimate.shape[2:]
    if not (0 <= x < width and 0 <= y < height):
        raise InputError(
            f"pixel: ({x}, {y}) lies outside the picture: x goes from 0 to {width - 1}, y from 0 "
            f"to {height - 1}"
        )
