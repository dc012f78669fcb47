"""Frechet distances of pairs, against closed forms; restorations of the wrong measurement."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest
import torch
from torch import Tensor

from certes.errors import InputError
from certes.evaluation.features import FeatureNetwork, custom_features
from certes.evaluation.generated import distance_warnings
from certes.evaluation.joint import Pair, joint_scores

MEAN = custom_features("mean", lambda x: x.mean(dim=(2, 3)), channels=1)


def flat(values: Iterable[float]) -> Tensor:
    """Grey pictures of one value each."""
    return torch.tensor(list(values)).reshape(-1, 1, 1, 1).expand(-1, 1, 4, 4)


def split(x: Tensor, y: Tensor, size: int) -> list[Pair]:
    return list(zip(x.split(size), y.split(size), strict=True))


SEEN = flat([0.0, 0.0, 1.0, 1.0])
OTHER = flat([0.0, 1.0, 0.0, 1.0])


def test_pictures_that_ignore_the_measurement_are_told_apart_by_pairs_only() -> None:
    # Real pictures equal their measurement: covariance v [[1, 1], [1, 1]]; restorations are
    # independent of it: v I. Tr(C1 + C2 - 2 sqrt(C1 C2)) = v (4 - 2 sqrt 2).
    variance = 1 / 3
    scores = joint_scores(MEAN, [(SEEN, SEEN)], [(OTHER, SEEN)])
    assert scores.unconditional == pytest.approx(0, abs=1e-12)
    assert scores.joint == pytest.approx(variance * (4 - 2 * math.sqrt(2)), rel=1e-6)
    right = joint_scores(MEAN, [(SEEN, SEEN)], [(SEEN, SEEN)])
    assert right.joint == pytest.approx(0, abs=1e-12)


def test_a_shift_of_the_pictures_counts_in_both() -> None:
    scores = joint_scores(MEAN, [(OTHER, SEEN)], [(OTHER + 0.25, SEEN)])
    assert scores.unconditional == pytest.approx(0.25**2, rel=1e-6)
    assert scores.joint == pytest.approx(0.25**2, rel=1e-6)
    # One of the measurements is none of the pictures' business.
    scores = joint_scores(MEAN, [(OTHER, SEEN)], [(OTHER, SEEN + 0.5)])
    assert scores.unconditional == pytest.approx(0, abs=1e-12)
    assert scores.joint == pytest.approx(0.5**2, rel=1e-6)


def test_batches_change_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y, z = torch.rand(3, 40, 1, 4, 4, generator=generator)
    whole = joint_scores(MEAN, [(x, y)], [(z, y)])
    parts = joint_scores(MEAN, iter(split(x, y, 7)), iter(split(z, y, 16)))
    assert parts.joint == pytest.approx(whole.joint, rel=1e-9)
    assert parts.unconditional == pytest.approx(whole.unconditional, rel=1e-9)
    assert (parts.real, parts.generated, parts.dimension) == (40, 40, 2)
    assert parts.warnings == distance_warnings(40, 40, 2)
    assert "biased" in parts.warnings[0]


def test_few_pairs_come_out_too_high() -> None:
    """The bias that the warning is about: equal distributions, fewer and fewer pairs."""
    pixels = custom_features("pixels", lambda x: x.flatten(1), channels=1)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 800, 1, 4, 4, generator=generator)
    few, many = (
        joint_scores(pixels, [(x[:n], y[:n])], [(x[n : 2 * n], y[n : 2 * n])]) for n in (40, 400)
    )
    assert few.joint > 5 * many.joint > 0
    assert few.joint > few.unconditional
    assert few.dimension == 32


def test_measurements_may_need_a_network_of_their_own() -> None:
    labels = torch.zeros(4, 2, 4, 4)
    sums = custom_features("sums", lambda y: y.sum(dim=(2, 3)), channels=2)
    scores = joint_scores(MEAN, [(SEEN, labels)], [(OTHER, labels)], network_y=sums)
    assert (scores.features, scores.dimension) == ("mean beside sums", 3)
    with pytest.raises(InputError, match="2 channels for a feature network of 1"):
        joint_scores(MEAN, [(SEEN, labels)], [(OTHER, labels)])


def test_only_the_published_network_makes_a_jfid() -> None:
    published = FeatureNetwork("Inception", MEAN.extract, channels=1, published=True)
    pairs = [(SEEN, SEEN)]
    scores = joint_scores(published, pairs, pairs)
    assert (scores.published, scores.features) == (True, "Inception")
    assert not joint_scores(published, pairs, pairs, network_y=MEAN).published
    assert not joint_scores(MEAN, pairs, pairs).published


def test_pairs_that_are_none() -> None:
    with pytest.raises(InputError, match="4 pictures with 3 measurements"):
        joint_scores(MEAN, [(SEEN, SEEN[:3])], [(SEEN, SEEN)])
    with pytest.raises(InputError, match="pairs: 0 given, at least 2"):
        joint_scores(MEAN, [(SEEN, SEEN)], [])
    with pytest.raises(InputError, match="pairs: 1 given, at least 2"):
        joint_scores(MEAN, [(SEEN[:1], SEEN[:1])], [(SEEN, SEEN)])
