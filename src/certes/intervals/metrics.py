"""What intervals are worth: how often they miss, how wide they are, and for which pixels.

The uncertainty of a risk comes from resampling whole images (cluster bootstrap): pixels of one
image are not independent, so an interval that counted pixels would be far too narrow.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from certes.intervals.bounds import Bounds
from certes.intervals.counted import Batches, Counted, Masks, Truths, missed
from certes.intervals.miscoverage import miscoverage
from certes.intervals.ranks import rank_correlation
from certes.intervals.resampling import central, draws, per_unit

_SSIM_WINDOW = 11  # pixels: the Gaussian window of Wang et al. 2004


def evaluate(
    interval: Batches,
    truth: Truths,
    seed: int = 0,
    *,
    counted: Masks | None = None,
    groups: Sequence[Hashable] | None = None,
) -> dict[str, Any]:
    """Score intervals against the true pictures; the result is JSON as it is.

    Args:
        interval: intervals and estimates (B, C, H, W); a list of them where pictures differ in
            size, one batch for each size.
        truth: true pictures, same shape, values in [0, 1]; a list if `interval` is one.
        seed: of the bootstrap.
        counted: which pixels count, bool (B, C or 1, H, W), a list if `interval` is one; for
            example the hole of an inpainting. All scores but ``ssim`` are of these alone.
        groups: one label per image where images are not independent (crops of one specimen): the
            units that are resampled.

    Returns: a dict with

        * ``images``: their number B; ``units``: the number of independent ones;
        * ``risk``: share of missed pixels, and ``risk_interval``, its 95 % confidence interval.
          Units weigh alike, whatever their size, and so do the images of a unit, as in the
          guarantee;
        * ``width``, ``width_median``: mean and median interval width, image units. The mean is
          weighted as the risk is;
        * ``stratified_risk``: risk among the pixels of each quartile of the width, narrowest
          first, and ``stratified_risk_interval``. Quartiles are those of all pixels together;
          equal widths stay together, so a stratum may be empty: ``None``;
        * ``rank_correlation``: Spearman's, of width and absolute error over all pixels, and
          ``rank_correlation_interval``; ``None`` where all widths or errors are equal;
        * ``miscoverage``: ``mean``, ``sd``, ``min``, ``max`` over the picture of the share of
          images that miss at a pixel, and ``chance_sd``, which sd would be if position did not
          matter; ``None`` for images of several sizes;
        * ``psnr``: of the estimate, dB, data range 1, averaged over images; ``None`` if infinite;
        * ``ssim``: of the estimate, whole images; ``None`` for pictures smaller than its 11-pixel
          window.

        Confidence intervals are ``None`` for a single unit, which cannot tell.

    Raises: InputError for shapes or numbers that do not match.
    """
    pictures = Counted.of(interval, truth, counted, groups)
    misses, widths = pictures.values(missed), pictures.values(lambda b, _: b.width)
    errors = pictures.values(_error)
    everything = [np.zeros(m.shape, np.int8) for m in misses]
    risk, limits = _risks(misses, everything, 1, pictures, seed)
    strata, strata_limits = _risks(misses, _quartiles(widths), 4, pictures, seed)
    correlation, correlation_limits = rank_correlation(widths, errors, pictures.unit, seed)
    return {
        "images": pictures.images,
        "units": pictures.units,
        "risk": risk[0],
        "risk_interval": limits[0],
        "width": pictures.mean_width(),
        "width_median": float(np.median(np.concatenate(widths))),
        "stratified_risk": strata,
        "stratified_risk_interval": strata_limits,
        "rank_correlation": correlation,
        "rank_correlation_interval": correlation_limits,
        "miscoverage": miscoverage(pictures),
        "psnr": _psnr(errors),
        "ssim": _ssim(pictures),
    }


def _error(bounds: Bounds, truth: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    return (bounds.estimate.double() - truth.double()).abs().float()


def _quartiles(widths: Sequence[Float[ndarray, " m"]]) -> list[Int[ndarray, " m"]]:
    """Quartile 0..3 of each pixel's width among all pixels."""
    edges = np.quantile(np.concatenate(widths), [0.25, 0.5, 0.75])
    return [np.searchsorted(edges, width).astype(np.int8) for width in widths]


def _risks(
    missed: Sequence[Bool[ndarray, " m"]],
    stratum: Sequence[Int[ndarray, " m"]],
    strata: int,
    pictures: Counted,
    seed: int,
) -> tuple[list[float | None], list[tuple[float, float] | None]]:
    """Risk of every stratum, and its confidence interval from resampled units."""
    members, misses = (
        per_unit(counts * pictures.weight[:, None], pictures.unit)
        for counts in (
            np.stack([np.bincount(s, minlength=strata) for s in stratum]),
            np.stack(
                [np.bincount(s[m], minlength=strata) for s, m in zip(stratum, missed, strict=True)]
            ),
        )
    )
    drawn = draws(pictures.units, seed)
    drawn_misses, drawn_members = drawn @ misses, drawn @ members
    risks: list[float | None] = []
    limits: list[tuple[float, float] | None] = []
    for s in range(strata):
        total = members[:, s].sum()
        risks.append(float(misses[:, s].sum() / total) if total else None)
        present = drawn_members[:, s] > 0
        resampled = drawn_misses[present, s] / drawn_members[present, s]
        limits.append(central(resampled) if total and pictures.units > 1 else None)
    return risks, limits


def _psnr(errors: Sequence[Float[ndarray, " m"]]) -> float | None:
    squares = np.array([np.square(e, dtype=np.float64).mean() for e in errors])
    return float(-10 * np.log10(squares).mean()) if (squares > 0).all() else None


def _ssim(pictures: Counted) -> float | None:
    if any(min(truth.shape[-2:]) < _SSIM_WINDOW for truth in pictures.truths):
        return None
    # torchmetrics takes seconds to import
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim

    values: list[Any] = [
        ssim(b.estimate, t, data_range=1.0, reduction="none")
        for b, t in zip(pictures.bounds, pictures.truths, strict=True)
    ]
    return float(torch.cat([v.reshape(-1) for v in values]).mean())
