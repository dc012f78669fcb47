r"""Bounds from samples: order statistics with the (K+1) correction.

Of K samples and a truth drawn alike, all K + 1 ranks of the truth are equally likely. The interval
from the k-th smallest to the k-th largest sample therefore covers it with probability
:math:`(K + 1 - 2k) / (K + 1)`, and k is the largest that keeps this at 1 - alpha or more. Plain
interpolated quantiles cover less: with 16 samples, .05 and .95 give .79 of a uniform truth.

All such pairs together are the rungs of a ladder from the median outwards, `sample_rungs`.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from certes.errors import InputError
from certes.intervals.bounds import Bounds, Provenance

_MOST_RUNGS = 16


def order_statistic(samples: int, alpha: float) -> int:
    """k such that the k-th smallest and k-th largest of `samples` are the bounds at `alpha`.

    It is ``floor((K + 1) alpha / 2)``, but at least 1: with few samples the extremes are all there
    is, and `nominal_coverage` falls short of 1 - alpha.
    """
    if samples < 1 or not 0 < alpha < 1:
        raise InputError(f"samples, alpha: at least 1 and inside (0, 1), not {samples}, {alpha}")
    # The tiny term undoes rounding: 20 * 0.1 / 2 must not become 0.999...
    return max(1, math.floor((samples + 1) * alpha / 2 + 1e-9))


def nominal_coverage(samples: int, alpha: float) -> float:
    """Probability with which the bounds of K exact posterior samples cover the truth.

    For K = 16 and alpha = 0.1 the bounds are the extremes, and it is 15/17 = 0.882, not 0.9.
    """
    return (samples + 1 - 2 * order_statistic(samples, alpha)) / (samples + 1)


def corrected_probabilities(samples: int, alpha: float) -> tuple[float, float]:
    """The two levels at which an interpolating quantile of K samples is the wanted order statistic.

    For `StreamingQuantiles` and `torch.quantile`, which put the k-th of K at (k - 1) / (K - 1).
    """
    k = order_statistic(samples, alpha)
    below = (k - 1) / max(1, samples - 1)
    return below, 1 - below


def sample_bounds(
    samples: Float[Tensor, "k b c h w"],
    alpha: float,
    estimate: Float[Tensor, "b c h w"] | None = None,
    provenance: Provenance | None = None,
    rungs: bool = False,
) -> Bounds:
    """Bounds from stored posterior samples.

    Args:
        samples: (K, B, C, H, W), float32, image units.
        alpha: miss rate aimed at; what K samples really give is `nominal_coverage`.
        estimate: the restored pictures; by default the samples' mean.
        provenance: what made the samples.
        rungs: whether the bounds shall carry `sample_rungs`, for the family ``level``.
    """
    k = order_statistic(len(samples), alpha)
    ordered = samples.sort(dim=0).values
    centre = samples.double().mean(dim=0).float() if estimate is None else estimate
    ladder = sample_rungs(ordered) if rungs else None
    return Bounds.ordered(ordered[k - 1], centre, ordered[-k], provenance, ladder)


def sample_rungs(ordered: Float[Tensor, "k b c h w"]) -> Float[Tensor, "r 2 b c h w"]:
    """Pairs of order statistics about the median, from the innermost to the extremes.

    The k-th smallest and the k-th largest sample make a pair. All K // 2 of them are taken, or 16
    evenly spaced ones, the extremes among them. A single sample is its own pair.

    Args:
        ordered: samples in ascending order.
    """
    pairs = max(1, len(ordered) // 2)
    taken = min(pairs, _MOST_RUNGS)
    ranks = [pairs - (j + 1) * pairs // taken for j in range(taken)]
    return torch.stack([torch.stack([ordered[k], ordered[-1 - k]]) for k in ranks])
