"""What people measure in pictures: one number for each, with what is needed to judge its errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from jaxtyping import Bool, Float, Float64
from numpy import ndarray
from torch import Tensor

from certes.errors import InputError

_GREY_LEVEL = 1 / 255
_BEST_PSNR = 100.0  # dB: far beyond float32 pictures, where the error may round to nothing

Pictures = Float[Tensor, "b c h w"]
Numbers = Float64[ndarray, " b"]


@dataclass(frozen=True)
class Measure:
    """A number for every picture.

    Args:
        name: what it is, in words that fit behind "the true".
        function: from pictures (B, C, H, W) in [0, 1] to numbers (B,).
        resolution: differences below it matter to nobody, in the unit of the numbers; positive.
            Intervals adapt to the spread of the samples, but to no smaller one.
        limits: the least and the largest number that there can be.
    """

    name: str
    function: Callable[[Pictures], Numbers]
    resolution: float
    limits: tuple[float, float] = (-math.inf, math.inf)

    def __call__(self, pictures: Pictures) -> Numbers:
        """Measure pictures, (B, C, H, W) in [0, 1]; (B,)."""
        return np.asarray(self.function(pictures), np.float64)

    def of_samples(self, samples: Float[Tensor, "k b c h w"]) -> Float64[ndarray, "k b"]:
        """Measure posterior samples of B pictures, (K, B, C, H, W) in [0, 1]; (K, B)."""
        return np.stack([self(sample) for sample in samples])


def mean_intensity(region: Bool[Tensor, "b 1 h w"]) -> Measure:
    """Mean value of the pixels in a region of each picture, over all channels, image units.

    Args:
        region: one for each picture, (B, 1, H, W).

    Raises: InputError for a region without pixels.
    """
    if not bool(region.flatten(1).any(dim=1).all()):
        raise InputError("region: one of them holds no pixels; leave that picture out")

    def mean(pictures: Pictures) -> Numbers:
        inside = region.to(pictures.device).expand_as(pictures)
        total = (pictures.double() * inside).sum(dim=(1, 2, 3))
        return (total / inside.sum(dim=(1, 2, 3))).cpu().numpy()

    return Measure("mean intensity of the region", mean, _GREY_LEVEL / 16, (0, 1))


def area(threshold: float | None = None) -> Measure:
    """Share of a picture's pixels that are brighter than a threshold, 0 to 1.

    Args:
        threshold: of the mean over channels, image units; ``None``: Otsu's, of each picture anew.
    """

    def share(pictures: Pictures) -> Numbers:
        return _bright(pictures, threshold).mean(axis=(1, 2))

    return Measure(f"share of pixels {_above(threshold)}", share, 1 / 256, (0, 1))


def objects(threshold: float | None = None, smallest: int = 1) -> Measure:
    """Number of connected objects (neighbours share a side) brighter than a threshold.

    Args:
        threshold: as for `area`.
        smallest: objects of fewer pixels do not count.
    """

    def count(pictures: Pictures) -> Numbers:
        return np.array([_count(bright, smallest) for bright in _bright(pictures, threshold)])

    name = f"number of objects of at least {smallest} pixels {_above(threshold)}"
    return Measure(name, count, 1, (0, math.inf))


def psnr_of(estimate: Pictures) -> Measure:
    """Peak signal-to-noise ratio of restored pictures, dB, data range 1.

    It is measured in what the truth may be: a posterior sample in place of the truth says what the
    ratio may be (Wen, Ahmad, Schniter 2024).

    Args:
        estimate: the restored pictures (B, C, H, W).
    """

    def ratio(pictures: Pictures) -> Numbers:
        squares = (pictures.double() - estimate.to(pictures.device).double()).square()
        error = squares.mean(dim=(1, 2, 3)).clamp(min=10 ** (-_BEST_PSNR / 10))
        return (-10 * error.log10()).cpu().numpy()

    return Measure("PSNR of the estimate", ratio, 0.1, (0, _BEST_PSNR))


def otsu_threshold(picture: Float[ndarray, "h w"]) -> float:
    """The threshold that separates a picture best into two classes, image units.

    It maximises the variance between the classes, over 256 grey levels (Otsu 1979); the largest
    value of the lower class is the threshold. A picture of one grey level has all of it there.
    """
    levels = np.bincount((picture.clip(0, 1) * 255).round().astype(int).ravel(), minlength=256)
    share = levels.cumsum() / levels.sum()
    moment = (levels * np.arange(256)).cumsum() / levels.sum()
    spread = share * (1 - share)
    between = np.divide(
        np.square(moment[-1] * share - moment), spread, out=np.zeros(256), where=spread > 0
    )
    if not between.any():
        return float(picture.max())
    # Between two classes far apart all thresholds are equally good: the middle one is taken.
    best = np.flatnonzero(between >= between.max() * (1 - 1e-12))
    return float(best.mean() + 0.5) / 255


def _bright(pictures: Pictures, threshold: float | None) -> Bool[ndarray, "b h w"]:
    grey = pictures.double().mean(dim=1).cpu().numpy()
    limits = [otsu_threshold(each) if threshold is None else threshold for each in grey]
    return grey > np.reshape(limits, (-1, 1, 1))


def _count(bright: Bool[ndarray, "h w"], smallest: int) -> int:
    # scipy.ndimage publishes no types, and takes a while to import
    from scipy import ndimage  # pyright: ignore[reportMissingTypeStubs]

    labels, _ = cast(Any, ndimage).label(bright)
    return int(np.count_nonzero(np.bincount(labels.ravel())[1:] >= smallest))


def _above(threshold: float | None) -> str:
    return "above Otsu's threshold" if threshold is None else f"above {threshold:g}"
