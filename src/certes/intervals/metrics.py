"""What intervals are worth: how often they miss, how wide they are, and for which pixels.

The uncertainty of a risk comes from resampling whole images (cluster bootstrap): pixels of one
image are not independent, so an interval that counted pixels would be far too narrow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from certes.intervals.bounds import Bounds, check_truth

_RESAMPLES = 2000
_CONFIDENCE = 0.95
_SSIM_WINDOW = 11  # pixels: the Gaussian window of Wang et al. 2004


def evaluate(interval: Bounds, truth: Float[Tensor, "b c h w"], seed: int = 0) -> dict[str, Any]:
    """Score intervals against the true pictures; the result is JSON as it is.

    Args:
        interval: intervals and estimates (B, C, H, W).
        truth: true pictures, same shape, values in [0, 1].
        seed: of the bootstrap.

    Returns: a dict with

        * ``images``: their number B;
        * ``risk``: share of missed pixels, and ``risk_interval``, its 95 % confidence interval;
        * ``width``, ``width_median``: mean and median interval width, image units;
        * ``stratified_risk``: risk among the pixels of each quartile of the width, narrowest
          first, and ``stratified_risk_interval``. Quartiles are those of all pixels together;
          equal widths stay together, so a stratum may be empty: ``None``;
        * ``psnr``: of the estimate, dB, data range 1, averaged over images; ``None`` if infinite;
        * ``ssim``: of the estimate; ``None`` for pictures smaller than its 11-pixel window.

        Confidence intervals are ``None`` for a single image, which cannot tell.
    """
    check_truth(truth, interval)
    missed = (~interval.contains(truth)).flatten(1).cpu().numpy()
    width = interval.width.flatten(1).cpu().numpy()
    everything = np.zeros(missed.shape, np.int8)
    risk, limits = _risks(missed, everything, 1, seed)
    strata, strata_limits = _risks(missed, _quartile(width), 4, seed)
    return {
        "images": len(truth),
        "risk": risk[0],
        "risk_interval": limits[0],
        "width": float(width.mean(dtype=np.float64)),
        "width_median": float(np.median(width)),
        "stratified_risk": strata,
        "stratified_risk_interval": strata_limits,
        "psnr": _psnr(interval.estimate, truth),
        "ssim": _ssim(interval.estimate, truth),
    }


def _quartile(width: Float[ndarray, "b m"]) -> Int[ndarray, "b m"]:
    """Quartile 0..3 of each pixel's width among all pixels."""
    edges = np.quantile(width, [0.25, 0.5, 0.75])
    return np.searchsorted(edges, width).astype(np.int8)


def _risks(
    missed: Bool[ndarray, "b m"], stratum: Int[ndarray, "b m"], strata: int, seed: int
) -> tuple[list[float | None], list[tuple[float, float] | None]]:
    """Risk of every stratum, and its confidence interval from resampled images."""
    members = np.stack([(stratum == s).sum(axis=1) for s in range(strata)], axis=1)
    misses = np.stack([(missed & (stratum == s)).sum(axis=1) for s in range(strata)], axis=1)
    images = len(missed)
    draws = np.random.default_rng(seed).multinomial(images, [1 / images] * images, _RESAMPLES)
    drawn_misses, drawn_members = draws @ misses, draws @ members
    risks: list[float | None] = []
    limits: list[tuple[float, float] | None] = []
    for s in range(strata):
        total = members[:, s].sum()
        risks.append(float(misses[:, s].sum() / total) if total else None)
        present = drawn_members[:, s] > 0
        resampled = drawn_misses[present, s] / drawn_members[present, s]
        limits.append(_central(resampled) if total and images > 1 else None)
    return risks, limits


def _central(resampled: Float[ndarray, " r"]) -> tuple[float, float]:
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return float(low), float(high)


def _psnr(estimate: Float[Tensor, "b c h w"], truth: Float[Tensor, "b c h w"]) -> float | None:
    squares = (estimate.cpu().double() - truth.cpu().double()).square().flatten(1).mean(dim=1)
    return float(-10 * squares.log10().mean()) if bool((squares > 0).all()) else None


def _ssim(estimate: Float[Tensor, "b c h w"], truth: Float[Tensor, "b c h w"]) -> float | None:
    if min(truth.shape[-2:]) < _SSIM_WINDOW:
        return None
    # torchmetrics takes seconds to import
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim

    return float(ssim(estimate, truth, data_range=1.0))  # pyright: ignore[reportArgumentType]
