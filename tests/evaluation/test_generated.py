"""Scores of generated pictures: streamed, named and warned about."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from certes.errors import InputError
from certes.evaluation.distributions import frechet_distance, moments
from certes.evaluation.features import FeatureNetwork, Features, custom_features
from certes.evaluation.generated import (
    ENOUGH,
    count_warnings,
    features_of,
    score_pictures,
)

MEANS = custom_features("channel means", lambda x: x.mean(dim=(2, 3)))


def pictures(n: int, seed: int = 0, mean: float = 0.5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return mean + 0.1 * torch.randn(n, 3, 4, 4, generator=generator)


def test_features_come_in_batches() -> None:
    """One batch at a time is asked for, and the split into batches changes nothing."""
    x = pictures(50)
    sizes: list[int] = []

    def look(batch: Tensor) -> Features:
        sizes.append(len(batch))
        return Features(batch.mean(dim=(2, 3)), batch.flatten(1), batch[:, :, 0, 0])

    split = features_of(FeatureNetwork("parts", look), iter(x.split([1, 20, 29])))
    whole = features_of(FeatureNetwork("whole", look), [x])
    assert sizes == [1, 20, 29, 50]
    assert torch.equal(split.vectors, whole.vectors)
    assert split.logits is not None
    assert split.logits.shape == (50, 3)
    assert split.spatial is not None
    assert whole.spatial is not None
    assert split.spatial.count == 50
    torch.testing.assert_close(split.spatial.covariance, whole.spatial.covariance)


def test_distance_is_that_of_the_features() -> None:
    real, generated = pictures(100), pictures(80, seed=1, mean=0.6)
    scores = score_pictures(MEANS, real.split(32), generated.split(32))
    a, b = (moments(x.mean(dim=(2, 3))) for x in (real, generated))
    expected = frechet_distance(a.mean, a.covariance, b.mean, b.covariance)
    assert scores.frechet_distance == pytest.approx(expected, rel=1e-6)
    assert (scores.real, scores.generated, scores.dimension) == (100, 80, 3)
    assert (scores.spatial_frechet_distance, scores.inception_score) == (None, None)


def test_the_same_pictures_score_perfectly_and_others_do_not() -> None:
    x = pictures(100)
    same = score_pictures(MEANS, [x], [x])
    assert same.frechet_distance == pytest.approx(0, abs=1e-12)
    assert (same.precision, same.recall) == (1, 1)
    other = score_pictures(MEANS, [x], [pictures(100, seed=1, mean=0.9)])
    assert other.frechet_distance > 0.1
    assert other.kernel_distance > 4 * other.kernel_distance_std
    assert (other.precision, other.recall) == (0, 0)


def test_what_a_network_cannot_tell_is_none() -> None:
    maps = custom_features("pixels", lambda x: x)
    scores = score_pictures(maps, [pictures(30)], [pictures(30, seed=1)])
    assert scores.spatial_frechet_distance is not None
    assert scores.spatial_frechet_distance > scores.frechet_distance
    classes = FeatureNetwork("classes", lambda x: Features(x.flatten(1), None, x[:, :, 0, 0]))
    assert score_pictures(classes, [pictures(30)], [pictures(30, 1)]).inception_score is not None
    assert score_pictures(classes, [pictures(30)], [pictures(19, 1)]).inception_score is None


def test_only_the_published_network_makes_an_fid() -> None:
    x = pictures(10)
    assert score_pictures(MEANS, [x], [x]).distance_name == (
        "Frechet distance (features: channel means)"
    )
    published = FeatureNetwork("Inception", MEANS.extract, published=True)
    assert score_pictures(published, [x], [x]).distance_name == "FID"


@pytest.mark.parametrize(
    ("real", "generated", "dimension", "about"),
    [
        (ENOUGH, ENOUGH, 2048, []),
        (ENOUGH, ENOUGH - 1, 2048, ["biased", "Precision and recall depend"]),
        (ENOUGH - 1, ENOUGH - 1, 2048, ["biased"]),
        (2048, 2048, 2048, ["biased", "singular"]),
        (50_000, ENOUGH, 2048, ["Precision and recall depend"]),
    ],
)
def test_warnings_say_what_counts_do(
    real: int, generated: int, dimension: int, about: list[str]
) -> None:
    said = count_warnings(real, generated, dimension)
    assert len(said) == len(about)
    assert all(word in line for word, line in zip(about, said, strict=True))


def test_scores_carry_their_warnings() -> None:
    scores = score_pictures(MEANS, [pictures(10)], [pictures(10, seed=1)])
    assert scores.warnings == count_warnings(10, 10, 3)
    assert "10 generated and 10 real pictures are biased" in scores.warnings[0]


def test_too_few_or_broken_pictures() -> None:
    with pytest.raises(InputError, match="none given"):
        score_pictures(MEANS, [], [pictures(5)])
    with pytest.raises(InputError, match="3 given, at least 4"):
        score_pictures(MEANS, [pictures(5)], [pictures(3)])
    with pytest.raises(InputError, match="NaN or infinite"):
        score_pictures(MEANS, [pictures(5)], [pictures(5) * torch.nan])
