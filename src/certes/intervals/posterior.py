"""The posterior of a batch of pictures: samples, or what was kept of them, and an estimate."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from certes.errors import InputError
from certes.intervals.bounds import Bounds, Provenance
from certes.intervals.quantiles import corrected_probabilities, order_statistic, sample_bounds
from certes.intervals.streaming import StreamingMoments, StreamingQuantiles


@dataclass(frozen=True, eq=False)
class Posterior:
    """K answers for every picture, image units.

    Args:
        estimate: the restored pictures: the best single answer (B, C, H, W).
        mean: mean of the samples (B, C, H, W).
        std: standard deviation of the samples (B, C, H, W).
        count: K.
        kept: the samples (K, B, C, H, W), or ``None`` where they were streamed. Those of a prior
            whose pictures are not confined to [0, 1] are kept as they fell, so that moments,
            quantiles and bounds are those of that prior.
        quantiles: the quantiles that were streamed, by level; empty where samples were kept.
        provenance: what made them, if that is to be checked when a calibration is applied.
        nfe: network calls behind each sample.
    """

    estimate: Float[Tensor, "b c h w"]
    mean: Float[Tensor, "b c h w"]
    std: Float[Tensor, "b c h w"]
    count: int
    kept: Float[Tensor, "k b c h w"] | None
    quantiles: dict[float, Float[Tensor, "b c h w"]]
    provenance: Provenance | None = None
    nfe: int = 0

    @property
    def samples(self) -> Float[Tensor, "k b c h w"]:
        """The samples, in [0, 1].

        Raises:
            InputError: if they were streamed.
        """
        if self.kept is None:
            raise InputError("samples: only their statistics were kept; ask with keep_samples=True")
        return self.kept.clamp(0, 1)

    def quantile(self, level: float) -> Float[Tensor, "b c h w"]:
        """A quantile of the samples, interpolated between them as ``torch.quantile`` does.

        Raises:
            InputError: if the samples were streamed and this level was not asked for.
        """
        if self.kept is not None:
            return _interpolated(self.kept, level)
        for known, value in self.quantiles.items():
            if abs(known - level) < 1e-6:
                return value
        raise InputError(
            f"quantile: level {level} was not streamed, only {sorted(self.quantiles)} were; "
            "ask for another alpha, or keep the samples"
        )

    def bounds(self, alpha: float = 0.1, rungs: bool = False) -> Bounds:
        """Bounds that aim at a miss rate of ``alpha`` a pixel; raw, without any guarantee yet.

        With few samples they are the extremes and cover less than 1 - alpha, by a known amount:
        :func:`certes.intervals.nominal_coverage`.

        Args:
            alpha: the miss rate.
            rungs: whether the bounds shall carry all nested pairs of order statistics as well
                (16 at most), for calibration with the family ``level``.

        Raises:
            InputError: if the samples were streamed for another alpha, or for rungs at all.
        """
        provenance = _aiming(self.provenance, alpha)
        if rungs:
            if self.kept is None:
                raise InputError("rungs: the samples were not kept; ask with keep_samples=True")
            return sample_bounds(self.kept, alpha, self.estimate, provenance, rungs=True)
        if self.kept is not None:
            k = order_statistic(self.count, alpha)
            lower = self.kept.kthvalue(k, dim=0).values
            upper = self.kept.kthvalue(self.count + 1 - k, dim=0).values
        else:
            lower, upper = (self.quantile(p) for p in corrected_probabilities(self.count, alpha))
        return Bounds.ordered(lower, self.estimate, upper, provenance)


def _aiming(provenance: Provenance | None, alpha: float) -> Provenance | None:
    return None if provenance is None else replace(provenance, alpha=alpha)


def _interpolated(samples: Float[Tensor, "k b c h w"], level: float) -> Float[Tensor, "b c h w"]:
    """One quantile by selection: ``torch.quantile`` sorts, and refuses large inputs."""
    if not 0 <= level <= 1:
        raise InputError(f"quantile: level {level}; give one between 0 and 1")
    rank = level * (len(samples) - 1)
    below = int(rank)
    low = samples.kthvalue(below + 1, dim=0).values
    high = samples.kthvalue(min(below + 2, len(samples)), dim=0).values
    return low.lerp(high, rank - below)


class PosteriorBuilder:
    """Takes samples as they come, for one group of pictures.

    Args:
        count: how many samples there will be for each picture.
        keep: whether to keep them; else only moments and the two quantiles for ``alpha`` are kept,
            in memory that does not grow with their number.
        alpha: the miss rate that :meth:`Posterior.bounds` will be asked for.
        confined: whether the pictures lie in [0, 1]; samples are cut to that range if so.
    """

    def __init__(self, count: int, keep: bool, alpha: float, confined: bool = True) -> None:
        self.count = count
        self.limits = (0.0, 1.0) if confined else (-torch.inf, torch.inf)
        self.moments = StreamingMoments()
        self.kept: list[Tensor] | None = [] if keep else None
        self.levels = corrected_probabilities(count, alpha)
        self.quantiles = StreamingQuantiles(self.levels)
        self.estimate = StreamingMoments()

    def add(
        self, samples: Float[Tensor, "k b c h w"], estimates: Float[Tensor, "k b c h w"]
    ) -> None:
        """Take in more samples and the estimates that belong to them."""
        samples = samples.clamp(*self.limits).float().cpu()
        self.moments.update(samples)
        self.estimate.update(estimates)
        if self.kept is None:
            self.quantiles.update(samples)
        else:
            self.kept.append(samples)

    def build(self, provenance: Provenance, inflation: float = 1.0) -> Posterior:
        """The posterior, once all samples are in.

        Args:
            provenance: what made the samples.
            inflation: samples are spread about their mean by this factor.
        """
        centre = self.moments.mean.float()
        estimate = self.estimate.mean.clamp(*self.limits).float()

        def inflated(values: Tensor) -> Tensor:
            return (centre + inflation * (values - centre)).clamp(*self.limits)

        nfe = provenance.steps or 0
        if self.kept is None:
            # Inflation is affine and increasing, so it may as well be done to the quantiles.
            values = (inflated(value) for value in self.quantiles.values)
            quantiles = dict(zip(self.levels, values, strict=True))
            std = inflation * self.moments.std.float()
            return Posterior(estimate, centre, std, self.count, None, quantiles, provenance, nfe)
        kept = inflated(torch.cat(self.kept))
        moments = StreamingMoments()
        moments.update(kept)
        mean, std = moments.mean.float(), moments.std.float()
        return Posterior(estimate, mean, std, self.count, kept, {}, provenance, nfe)


def join(parts: list[Posterior]) -> Posterior:
    """Posteriors of groups of pictures as one, in order; they come from the same settings."""
    first = parts[0]
    kept = [part.kept for part in parts if part.kept is not None]
    return Posterior(
        estimate=torch.cat([part.estimate for part in parts]),
        mean=torch.cat([part.mean for part in parts]),
        std=torch.cat([part.std for part in parts]),
        count=first.count,
        kept=torch.cat(kept, dim=1) if kept else None,
        quantiles={p: torch.cat([part.quantiles[p] for part in parts]) for p in first.quantiles},
        provenance=first.provenance,
        nfe=first.nfe,
    )
