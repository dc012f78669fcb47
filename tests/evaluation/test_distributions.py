"""Distances of feature distributions against closed forms, brute force and torchmetrics."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from certes.errors import InputError
from certes.evaluation.distributions import (
    Moments,
    frechet_distance,
    inception_score,
    kernel_distance,
    moments,
    subset_size,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def rotation(d: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(normal(d, d, seed=seed)).Q


def between(a: Tensor, b: Tensor) -> float:
    one, two = moments(a), moments(b)
    return frechet_distance(one.mean, one.covariance, two.mean, two.covariance)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_moments_in_batches_are_those_of_the_whole(offset: float) -> None:
    """Also where the mean is a million times the deviation: sums of squares would lose it."""
    x = normal(101, 5) + offset
    taken = Moments()
    for part in x.split([1, 40, 7, 53]):
        taken.add(part)
    assert taken.count == 101
    torch.testing.assert_close(taken.mean, x.mean(dim=0), rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(taken.covariance, torch.cov(x.T), rtol=1e-9, atol=1e-9)


def test_moments_refuse_what_has_none() -> None:
    taken = moments(normal(1, 3))
    with pytest.raises(InputError, match="1 given, a covariance needs at least 2"):
        _ = taken.covariance
    with pytest.raises(InputError, match="NaN or infinite"):
        taken.add(torch.tensor([[0.0, math.nan, 0.0]]))
    with pytest.raises(InputError, match="4 a picture after 3"):
        taken.add(normal(1, 4))


def test_frechet_distance_of_covariances_that_commute() -> None:
    q = rotation(6)
    a, b = normal(6).exp(), normal(6, seed=1).exp()
    mean = normal(6, seed=2)
    expected = float(mean.square().sum() + (a.sqrt() - b.sqrt()).square().sum())
    measured = frechet_distance(
        mean, q @ torch.diag(a) @ q.T, torch.zeros_like(mean), q @ torch.diag(b) @ q.T
    )
    assert measured == pytest.approx(expected, rel=1e-12)


def test_frechet_distance_in_two_dimensions() -> None:
    """There the trace of the root has a closed form, sqrt(tr M + 2 sqrt(det M))."""
    roots = normal(2, 2), normal(2, 2, seed=1)
    c1, c2 = (root @ root.T for root in roots)
    product_ = c1 @ c2
    root_trace = (product_.trace() + 2 * product_.det().sqrt()).sqrt()
    expected = float(c1.trace() + c2.trace() - 2 * root_trace)
    zero = torch.zeros(2)
    assert frechet_distance(zero, c1, zero, c2) == pytest.approx(expected, rel=1e-12)


def test_frechet_distance_of_rank_one_covariances() -> None:
    a, b, zero = normal(40), normal(40, seed=1), torch.zeros(40)
    expected = float(a.square().sum() + b.square().sum() - 2 * (a @ b).abs())
    measured = frechet_distance(zero, torch.outer(a, a), zero, torch.outer(b, b))
    assert measured == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_covariances_that_share_no_direction() -> None:
    """The root is zero, and so must the roots of the rounding errors be in the other 270 each."""
    q = rotation(300)
    c1, c2 = (part @ part.T for part in (q[:, :30], q[:, 30:60]))
    zero = torch.zeros(300)
    assert frechet_distance(zero, c1, zero, c2) == pytest.approx(60, rel=1e-12)


def test_frechet_distance_with_fewer_vectors_than_dimensions() -> None:
    """Equal sets have distance zero, and scaling by 2 costs the trace: to rounding, not to 1e-6."""
    x = normal(20, 300) * torch.logspace(0, -3, 300, dtype=torch.float64)
    trace = float(torch.cov(x.T).trace())
    assert between(x, x) == pytest.approx(0, abs=1e-12 * trace)
    centred = x - x.mean(dim=0)
    assert between(centred, 2 * centred) == pytest.approx(trace, rel=1e-12)


def test_frechet_distance_agrees_with_torchmetrics() -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Given(torch.nn.Module):
        num_features = 12

        def forward(self, features: Tensor) -> Tensor:
            return features

    a, b = normal(200, 12) @ rotation(12), 0.3 + 1.2 * normal(150, 12, seed=1)
    metric = FrechetInceptionDistance(Given(), normalize=True)
    metric.update(a, real=True)
    metric.update(b, real=False)
    assert between(a, b) == pytest.approx(float(metric.compute()), rel=1e-10)


def test_frechet_distance_is_biased_by_few_pictures_and_the_kernel_distance_is_not() -> None:
    """Two samples of one Gaussian: the distance falls as 1/n, and towards zero, but is not zero."""
    d, trials = 16, 20
    frechet: dict[int, float] = {}
    for n in (50, 200, 800):
        pairs = [normal(2, n, d, seed=100 * n + i) for i in range(trials)]
        frechet[n] = sum(between(*pair) for pair in pairs) / trials
        kernels = torch.tensor([kernel_distance(*pair)[0] for pair in pairs])
        error = float(kernels.std() / math.sqrt(trials))
        assert abs(float(kernels.mean())) < 4 * error
    assert frechet[50] > 3 * frechet[200] > 9 * frechet[800] > 0
    # Means alone differ by 2 d / n in expectation.
    assert all(value > 2 * d / n for n, value in frechet.items())


def mmd(a: Tensor, b: Tensor, *, biased: bool = False) -> float:
    """Pair by pair; biased counts each vector as its own neighbour."""
    d = a.shape[1]

    def mean(x: Tensor, y: Tensor, skip: bool) -> float:
        pairs = [(i, j) for i, j in product(range(len(x)), range(len(y))) if not (skip and i == j)]
        return sum(float(x[i] @ y[j] / d + 1) ** 3 for i, j in pairs) / len(pairs)

    return mean(a, a, not biased) + mean(b, b, not biased) - 2 * mean(a, b, False)


def test_kernel_distance_is_the_mean_over_pairs_of_subsets() -> None:
    """Subsets of 2 of 4: the mean over many comes near the mean over all, which is unbiased."""
    a, b = normal(4, 3), 1 + normal(4, 3, seed=1)
    mean, deviation = kernel_distance(a, b)
    expected = mmd(a, b)
    assert abs(mean - expected) < 4 * deviation / math.sqrt(100)
    assert abs(mean - mmd(a, b, biased=True)) > 4 * deviation / math.sqrt(100)


def test_kernel_distance_of_gaussians_in_one_dimension() -> None:
    """The kernel (xy + 1)^3 compares three moments: 3 dm1^2 + 3 dm2^2 + dm3^2."""
    shift, trials = 0.5, 40
    expected = 3 * shift**2 + 3 * shift**4 + (3 * shift + shift**3) ** 2
    values = torch.tensor(
        [
            kernel_distance(normal(400, 1, seed=i), shift + normal(400, 1, seed=1000 + i))[0]
            for i in range(trials)
        ]
    )
    assert abs(float(values.mean()) - expected) < 4 * float(values.std()) / math.sqrt(trials)


def test_kernel_distance_and_score_depend_on_their_seed_alone() -> None:
    a, b = normal(50, 4), normal(60, 4, seed=1)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = kernel_distance(a, b, seed=3), inception_score(a, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert (kernel_distance(a, b, seed=3), inception_score(a, seed=3)) == first
    assert kernel_distance(a, b, seed=4) != first[0]


def test_subsets_are_of_1000_or_half_of_the_smaller_set() -> None:
    assert [subset_size(*n) for n in ((5000, 2000), (5000, 300), (4, 9))] == [1000, 150, 2]
    with pytest.raises(InputError, match="3 given, at least 4"):
        subset_size(3, 10)


@pytest.mark.parametrize("certainty", [60.0, 5000.0])
def test_inception_score_of_certain_classes_is_their_number(certainty: float) -> None:
    """Every part of the pictures sees each of 5 classes about equally often, a sixth one never."""
    logits = certainty * torch.eye(6)[:5].repeat(400, 1)
    mean, deviation = inception_score(logits)
    assert 4.9 < mean < 5
    assert 0 < deviation < 0.1


def test_inception_score_of_one_class_and_of_no_idea_is_one() -> None:
    for logits in (60 * torch.eye(5)[:1].expand(40, 5), torch.zeros(40, 5)):
        assert inception_score(logits) == (pytest.approx(1, abs=1e-12), pytest.approx(0, abs=1e-12))


def test_inception_score_needs_pictures() -> None:
    with pytest.raises(InputError, match="wanted at least 20"):
        inception_score(torch.zeros(19, 5))
