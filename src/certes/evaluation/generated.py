"""Scores of a set of generated pictures against a set of real ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from certes.errors import InputError
from certes.evaluation.distributions import (
    FEWEST,
    Moments,
    frechet_distance,
    inception_score,
    kernel_distance,
    subset_size,
)
from certes.evaluation.features import FeatureNetwork
from certes.evaluation.neighbours import precision_recall

ENOUGH = 10_000
"""Pictures in each set from which on a Frechet distance of 2048 features is commonly reported."""


@dataclass(frozen=True)
class Scores:
    """How near generated pictures are to real ones, as the network `features` sees them.

    `frechet_distance` is an FID only if `published`, and `spatial_frechet_distance` an sFID,
    `kernel_distance` a KID: otherwise they are comparable only with others of the same network.
    Distances are 0 for equal distributions; `kernel_distance_std` is that of single subsets of
    `subset_size` pictures. `precision` and `recall` are shares. What a network cannot tell is None.
    `warnings` says, in words, what the numbers are not good for.
    """

    features: str
    published: bool
    dimension: int
    real: int
    generated: int
    frechet_distance: float
    spatial_frechet_distance: float | None
    kernel_distance: float
    kernel_distance_std: float
    subset_size: int
    precision: float
    recall: float
    inception_score: float | None
    inception_score_std: float | None
    warnings: tuple[str, ...]

    @property
    def distance_name(self) -> str:
        """FID, or what it is instead."""
        return "FID" if self.published else f"Frechet distance (features: {self.features})"


@dataclass(frozen=True)
class FeatureSet:
    """Features of a set of pictures; of spatial ones only mean and covariance are kept."""

    vectors: Float[Tensor, "n d"]
    moments: Moments
    spatial: Moments | None
    logits: Float[Tensor, "n k"] | None


def features_of(network: FeatureNetwork, batches: Iterable[Float[Tensor, "b c h w"]]) -> FeatureSet:
    """Look at batches of pictures in [0, 1], one batch in memory at a time.

    Raises: InputError when there are no pictures or the network cannot look at them.
    """
    vectors: list[Tensor] = []
    logits: list[Tensor] = []
    pooled, spatial = Moments(), Moments()
    for pictures in batches:
        seen = network(pictures)
        vectors.append(seen.vectors.float().cpu())
        pooled.add(vectors[-1])
        if seen.spatial is not None:
            spatial.add(seen.spatial.float().cpu())
        if seen.logits is not None:
            logits.append(seen.logits.float().cpu())
    if not vectors:
        raise InputError("pictures: none given, at least 4 are needed")
    return FeatureSet(
        torch.cat(vectors),
        pooled,
        spatial if spatial.count else None,
        torch.cat(logits) if logits else None,
    )


def score_pictures(
    network: FeatureNetwork,
    real: Iterable[Float[Tensor, "b c h w"]],
    generated: Iterable[Float[Tensor, "b c h w"]],
    seed: int = 0,
) -> Scores:
    """Compare generated pictures with real ones, both in batches in [0, 1] and of the same size.

    Args:
        network: what looks at them; see :mod:`certes.evaluation.features`.
        real: batches of real pictures.
        generated: batches of generated pictures.
        seed: of the random subsets of the kernel distance and the Inception score.

    Raises: InputError for fewer than 4 pictures in a set.
    """
    return score_features(
        network, features_of(network, real), features_of(network, generated), seed
    )


def score_features(
    network: FeatureNetwork, real: FeatureSet, generated: FeatureSet, seed: int = 0
) -> Scores:
    """Compare features that `network` found; arguments and errors are those of `score_pictures`."""
    counts = len(real.vectors), len(generated.vectors)
    kernel, kernel_std = kernel_distance(real.vectors, generated.vectors, seed)
    precision, recall = precision_recall(real.vectors, generated.vectors)
    score, score_std = _inception_score(generated.logits, seed)
    return Scores(
        features=network.name,
        published=network.published,
        dimension=real.vectors.shape[1],
        real=counts[0],
        generated=counts[1],
        frechet_distance=_distance(real.moments, generated.moments),
        spatial_frechet_distance=_spatial_distance(real.spatial, generated.spatial),
        kernel_distance=kernel,
        kernel_distance_std=kernel_std,
        subset_size=subset_size(*counts),
        precision=precision,
        recall=recall,
        inception_score=score,
        inception_score_std=score_std,
        warnings=count_warnings(*counts, real.vectors.shape[1]),
    )


def count_warnings(real: int, generated: int, dimension: int) -> tuple[str, ...]:
    """What cannot be concluded from sets of these sizes, a sentence each."""
    said = distance_warnings(real, generated, dimension)
    if real == generated:
        return said
    return (
        *said,
        f"Precision and recall depend on the sizes of the sets, which differ ({generated} "
        f"generated, {real} real): read neither against the other.",
    )


def distance_warnings(real: int, generated: int, dimension: int) -> tuple[str, ...]:
    """What Frechet distances of sets of these sizes are not good for, a sentence each.

    Source of the bias: Chong and Forsyth, Effectively unbiased FID and Inception score and where to
    find them (CVPR 2020).
    """
    said: list[str] = []
    if min(real, generated) < ENOUGH:
        said.append(
            f"Frechet distances of {generated} generated and {real} real pictures are biased: "
            f"below {ENOUGH} they come out too high, the more so the fewer the pictures, and by an "
            "amount that differs between models. Compare only distances of equal numbers of "
            "pictures, or the kernel distance, which has no such bias."
        )
    if min(real, generated) <= dimension:
        said.append(
            f"{min(real, generated)} pictures cannot fill {dimension} dimensions: the covariance "
            "of their features is singular."
        )
    return tuple(said)


def _distance(a: Moments, b: Moments) -> float:
    return frechet_distance(a.mean, a.covariance, b.mean, b.covariance)


def _spatial_distance(real: Moments | None, generated: Moments | None) -> float | None:
    return None if real is None or generated is None else _distance(real, generated)


def _inception_score(
    logits: Float[Tensor, "n k"] | None, seed: int
) -> tuple[float, float] | tuple[None, None]:
    return (None, None) if logits is None or len(logits) < FEWEST else inception_score(logits, seed)
