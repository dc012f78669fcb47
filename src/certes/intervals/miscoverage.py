r"""Where in the picture intervals miss: on some spots more often than on others?

The map holds for each pixel the share of images whose interval misses there. If position did not
matter, an image's misses could lie anywhere in it. Drawn to other places, image by image, they
would still make the map uneven: its variance would be, on average,

.. math:: \sum_i v_i / n^2

where :math:`v_i` is the variance of image i's misses over its own pixels (for a grey image with
risk :math:`r_i` it is :math:`r_i (1 - r_i)`) and n the number of images. That is its root
``chance_sd``. It holds however much neighbours are alike, as long as images are independent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from torch import Tensor

from certes.errors import InputError
from certes.intervals.bounds import Bounds
from certes.intervals.counted import Batches, Counted, Masks, Truths, missed

Map = Float64[ndarray, "h w"]


def miscoverage_map(interval: Batches, truth: Truths, counted: Masks | None = None) -> Map:
    """Share of images that miss at each pixel; of colour images, mean over the channels.

    Args:
        interval: intervals (B, C, H, W), in one batch or in several.
        truth: true pictures, same shape, values in [0, 1].
        counted: which pixels count, (B, C or 1, H, W).

    Returns: (H, W), NaN where no image counts.

    Raises: InputError for images of different sizes, or as `evaluate`.
    """
    return _mean(_images(Counted.of(interval, truth, counted)))


def miscoverage(pictures: Counted) -> dict[str, float] | None:
    """Mean, sd, min and max of the map and the sd by pure chance; ``None`` for unequal sizes."""
    if not _one_size(pictures.bounds):
        return None
    images = _images(pictures)
    shares = _mean(images)
    return {
        "mean": float(np.nanmean(shares)),
        "sd": float(np.nanstd(shares)),
        "chance_sd": float(np.sqrt(_chance_variance(images))),
        "min": float(np.nanmin(shares)),
        "max": float(np.nanmax(shares)),
    }


def _images(pictures: Counted) -> Float64[ndarray, "b h w"]:
    """Share of counted channels that miss, NaN where none counts."""
    if not _one_size(pictures.bounds):
        raise InputError("interval: a map needs images of one size; these differ")
    return np.concatenate([_batch(b, t, mask) for b, t, mask in pictures.batches()])


def _batch(bounds: Bounds, truth: Tensor, mask: Tensor | None) -> Float64[ndarray, "b h w"]:
    misses = missed(bounds, truth).cpu()
    if mask is None:
        return misses.double().mean(dim=1).numpy()
    return ((misses & mask).sum(dim=1).double() / mask.sum(dim=1)).numpy()


def _one_size(bounds: Sequence[Bounds]) -> bool:
    return len({b.estimate.shape[1:] for b in bounds}) == 1


def _mean(images: Float64[ndarray, "b h w"]) -> Map:
    present = np.isfinite(images)
    with np.errstate(invalid="ignore"):  # 0 / 0 where no image counts
        return np.where(present, images, 0.0).sum(axis=0) / present.sum(axis=0)


def _chance_variance(images: Float64[ndarray, "b h w"]) -> float:
    """Variance of the map, had each image's misses fallen anywhere on its counted pixels.

    Where images count different pixels, their unequal risks alone make the map uneven too.
    """
    present = np.isfinite(images)
    counts = present.sum(axis=0)
    inside = counts > 0
    means, variances = (
        np.where(present, f(images, axis=(1, 2))[:, None, None], 0.0).sum(axis=0)[inside]
        for f in (np.nanmean, np.nanvar)
    )
    n = counts[inside]
    return float((variances / n**2).mean() + (means / n).var())
