from __future__ import annotations

import math

import pytest
import torch

from certes.errors import InputError
from certes.intervals import StreamingMoments, StreamingQuantiles

LEVELS = (0.05, 0.5, 0.95)


def gaussian(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("chunk", [1, 7, 40])
def test_moments_do_not_depend_on_chunks(chunk: int) -> None:
    samples = gaussian(40, 2, 1, 3, 3)
    moments = StreamingMoments()
    for part in samples.split(chunk):
        moments.update(part)
    moments.update(samples[:0])
    torch.testing.assert_close(moments.mean, samples.mean(0), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(moments.std, samples.std(0), rtol=1e-13, atol=1e-13)


def test_moments_keep_a_small_spread_on_a_large_mean() -> None:
    samples = (1000 + 1e-3 * gaussian(64, 1, 1, 4, 4)).float()
    moments = StreamingMoments()
    for part in samples.split(5):
        moments.update(part)
    # E[x^2] - E[x]^2 in float32 would return noise of order 0.1 here.
    torch.testing.assert_close(moments.std, samples.double().std(0), rtol=1e-9, atol=0)


@pytest.mark.parametrize("count", [1, 4, 32])
def test_quantiles_of_few_samples_are_exact(count: int) -> None:
    samples = gaussian(count, 1, 2, 3)
    stream = StreamingQuantiles(LEVELS)
    stream.update(samples)
    expected = torch.quantile(samples, torch.tensor(LEVELS, dtype=torch.float64), dim=0)
    torch.testing.assert_close(stream.values, expected)


def test_quantiles_of_many_samples_approach_the_truth() -> None:
    samples = gaussian(2000, 1, 16, 16)
    stream = StreamingQuantiles(LEVELS)
    for part in samples.split(17):
        stream.update(part)
    exact = torch.quantile(samples, torch.tensor(LEVELS, dtype=torch.float64), dim=0)
    # Less than the error of the exact quantiles themselves: 0.047 at .05 and .95, 0.028 at .5.
    assert (stream.values - exact).square().mean().sqrt() < 0.03
    truth = torch.tensor([-1.6449, 0.0, 1.6449], dtype=torch.float64)
    torch.testing.assert_close(stream.values.mean(dim=(1, 2, 3)), truth, rtol=0, atol=0.02)


def test_the_published_five_marker_start_gives_the_published_median() -> None:
    # Jain and Chlamtac 1985, table I: the median of 20 observations, 4.44 by five markers.
    observations = [0.02, 0.15, 0.74, 3.39, 0.83, 22.37, 10.15, 15.43, 38.62, 15.92]
    observations += [34.60, 10.28, 1.47, 0.40, 0.05, 11.39, 0.27, 0.42, 0.09, 11.37]
    stream = StreamingQuantiles([0.5], exact=5)
    stream.update(torch.tensor(observations, dtype=torch.float64)[:, None])
    assert stream._heights[2].item() == pytest.approx(4.44, abs=0.005)


def test_extremes_stay_exact() -> None:
    samples = gaussian(500, 1, 3, 3)
    stream = StreamingQuantiles([0.0, 1.0], exact=5)
    stream.update(samples)
    assert torch.equal(stream.values, torch.stack([samples.amin(0), samples.amax(0)]))


def test_memory_does_not_grow_with_the_number_of_samples() -> None:
    stream = StreamingQuantiles(LEVELS, exact=8)
    held = set()
    for part in gaussian(64, 1, 2, 2).split(8):
        stream.update(part)
        held.add(stream._heights.numel() + sum(s.numel() for s in stream._kept))
    assert max(held) <= max(8, 5 * len(LEVELS)) * 4


def test_constant_samples_give_that_constant() -> None:
    stream = StreamingQuantiles(LEVELS, exact=5)
    stream.update(torch.full((50, 1, 2, 2), 0.25))
    assert (stream.values == 0.25).all()
    assert not math.isnan(float(stream.values.sum()))


@pytest.mark.parametrize(("levels", "exact"), [([], 5), ([1.2], 5), ([0.5], 4)])
def test_refuses_impossible_requests(levels: list[float], exact: int) -> None:
    with pytest.raises(InputError, match="probabilities, exact"):
        StreamingQuantiles(levels, exact)
