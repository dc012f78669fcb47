"""The posterior of a batch: what is kept of the samples, and the bounds they give."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from certes.errors import InputError
from certes.intervals.bounds import Provenance
from certes.intervals.posterior import Posterior, PosteriorBuilder, join
from certes.intervals.quantiles import corrected_probabilities, sample_bounds

SHAPE = (2, 1, 3, 4)
MADE = Provenance("hash", "denoise", noise=0.1, sampler="pinned", steps=20)
ROUNDING = {"rtol": 0.0, "atol": 1e-6}


def drawn(count: int, seed: int = 0) -> Tensor:
    """Samples well inside [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return 0.5 + 0.1 * torch.randn(count, *SHAPE, generator=generator).clamp(-3, 3)


def built(
    samples: Tensor, keep: bool = True, alpha: float = 0.1, chunk: int = 5, inflation: float = 1.0
) -> Posterior:
    builder = PosteriorBuilder(len(samples), keep, alpha)
    for part in samples.split(chunk):
        builder.add(part, part + 0.02)
    return builder.build(MADE, inflation)


@pytest.mark.parametrize("chunk", [1, 5, 40])
def test_samples_and_their_moments(chunk: int) -> None:
    samples = drawn(17)
    posterior = built(samples, chunk=chunk)
    torch.testing.assert_close(posterior.samples, samples, **ROUNDING)
    torch.testing.assert_close(posterior.mean, samples.mean(0), **ROUNDING)
    torch.testing.assert_close(posterior.std, samples.std(0), **ROUNDING)
    torch.testing.assert_close(posterior.estimate, samples.mean(0) + 0.02, **ROUNDING)
    assert posterior.count == 17
    assert posterior.nfe == 20
    assert posterior.provenance == MADE


def test_samples_and_estimates_are_pictures() -> None:
    wild = 3 * drawn(9) - 1
    assert float(wild.min()) < 0
    assert float(wild.max()) > 1
    for keep in (True, False):
        posterior = built(wild, keep)
        for value in (posterior.mean, posterior.estimate, *posterior.quantiles.values()):
            assert 0 <= float(value.min()) <= float(value.max()) <= 1
            assert value.dtype == torch.float32
    cut, streamed = wild.clamp(0, 1), built(wild, keep=False)
    torch.testing.assert_close(built(wild).samples, cut, **ROUNDING)
    torch.testing.assert_close(streamed.mean, cut.mean(0), **ROUNDING)
    torch.testing.assert_close(streamed.std, cut.std(0), **ROUNDING)


def test_one_sample_is_a_posterior_of_no_spread() -> None:
    posterior = built(drawn(1))
    assert torch.equal(posterior.std, torch.zeros(SHAPE))
    assert torch.equal(posterior.quantile(0.3), posterior.samples[0])


@pytest.mark.parametrize("level", [0.0, 0.05, 0.31, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("count", [1, 2, 16])
def test_quantiles_are_those_of_torch(level: float, count: int) -> None:
    posterior = built(drawn(count))
    expected = torch.quantile(posterior.samples, level, dim=0)
    torch.testing.assert_close(posterior.quantile(level), expected, **ROUNDING)


@pytest.mark.parametrize("level", [-0.1, 1.1])
def test_quantiles_outside_the_samples_are_refused(level: float) -> None:
    with pytest.raises(InputError, match="level"):
        built(drawn(4)).quantile(level)


@pytest.mark.parametrize(("count", "alpha"), [(1, 0.1), (4, 0.1), (16, 0.1), (39, 0.1), (99, 0.2)])
def test_bounds_are_the_corrected_order_statistics(count: int, alpha: float) -> None:
    posterior = built(drawn(count))
    bounds = posterior.bounds(alpha)
    expected = sample_bounds(posterior.samples, alpha, posterior.estimate)
    for name in ("lower", "estimate", "upper"):
        assert torch.equal(getattr(bounds, name), getattr(expected, name))
    assert bounds.provenance is not None
    assert bounds.provenance.differences(MADE) == [f"alpha: {alpha}, not None"]
    assert bounds.guarantee is None


def test_bounds_grow_to_reach_an_estimate_outside_the_samples() -> None:
    samples = drawn(4)
    builder = PosteriorBuilder(4, True, 0.1)
    builder.add(samples, samples + 0.4)
    posterior = builder.build(MADE)
    bounds = posterior.bounds()
    assert torch.equal(bounds.upper, posterior.samples.amax(0).maximum(posterior.estimate))
    assert torch.equal(bounds.lower, posterior.samples.amin(0))


@pytest.mark.parametrize(("count", "rungs"), [(1, 1), (2, 1), (3, 1), (16, 8), (33, 16), (200, 16)])
def test_rungs_are_pairs_of_order_statistics(count: int, rungs: int) -> None:
    posterior = built(drawn(count))
    bounds = posterior.bounds(0.1, rungs=True)
    plain = posterior.bounds(0.1)
    assert torch.equal(bounds.lower, plain.lower)
    assert torch.equal(bounds.upper, plain.upper)
    assert bounds.provenance == plain.provenance
    assert plain.rungs is None
    assert bounds.rungs is not None
    assert len(bounds.rungs) == rungs
    kept = posterior.samples.sort(dim=0).values
    extremes = torch.stack(
        [kept[0].minimum(posterior.estimate), kept[-1].maximum(posterior.estimate)]
    )
    assert torch.equal(bounds.rungs[-1], extremes)
    if rungs == count // 2:
        for j, rung in enumerate(bounds.rungs):
            k = count // 2 - 1 - j
            assert torch.equal(rung[0], kept[k].minimum(posterior.estimate))
            assert torch.equal(rung[1], kept[-1 - k].maximum(posterior.estimate))


def test_rungs_need_the_samples() -> None:
    with pytest.raises(InputError, match=r"rungs: .* keep_samples=True"):
        built(drawn(40), keep=False).bounds(0.1, rungs=True)


@pytest.mark.parametrize("inflation", [1.0, 1.3])
@pytest.mark.parametrize("count", [2, 30])
def test_streaming_keeps_the_same_statistics(count: int, inflation: float) -> None:
    samples = drawn(count)
    kept, streamed = (built(samples, keep, 0.2, inflation=inflation) for keep in (True, False))
    assert streamed.kept is None
    for name in ("estimate", "mean", "std"):
        torch.testing.assert_close(getattr(streamed, name), getattr(kept, name), **ROUNDING)
    for level in corrected_probabilities(count, 0.2):
        torch.testing.assert_close(streamed.quantile(level), kept.quantile(level), **ROUNDING)
    torch.testing.assert_close(streamed.bounds(0.2).lower, kept.bounds(0.2).lower, **ROUNDING)


def test_streaming_of_many_samples_is_close() -> None:
    samples = drawn(500)
    kept, streamed = (built(samples, keep, chunk=32) for keep in (True, False))
    difference = (streamed.bounds(0.1).width - kept.bounds(0.1).width).abs()
    # The samples' own error of such a width is about .012.
    assert float(difference.mean()) < 0.006


def test_streaming_answers_only_what_it_was_asked_for() -> None:
    streamed = built(drawn(40), keep=False, alpha=0.1)
    with pytest.raises(InputError, match="keep_samples=True"):
        _ = streamed.samples
    with pytest.raises(InputError, match=r"0\.5 was not streamed"):
        streamed.quantile(0.5)
    with pytest.raises(InputError, match="not streamed"):
        streamed.bounds(0.3)


def held(value: object, seen: set[int]) -> int:
    """Tensor elements that an object holds on to."""
    if id(value) in seen:
        return 0
    seen.add(id(value))
    if isinstance(value, Tensor):
        return value.untyped_storage().nbytes()
    if isinstance(value, (list, tuple)):
        return sum(held(item, seen) for item in value)
    return sum(held(item, seen) for item in getattr(value, "__dict__", {}).values())


def test_memory_does_not_grow_with_streamed_samples() -> None:
    def builder(count: int, keep: bool) -> int:
        building = PosteriorBuilder(count, keep, 0.1)
        for part in drawn(count).split(10):
            building.add(part, part)
        return held(building, set())

    assert builder(400, keep=False) == builder(50, keep=False)
    assert builder(400, keep=True) > 5 * builder(50, keep=True)  # else nothing was measured


def test_inflation_spreads_samples_about_their_mean() -> None:
    samples = drawn(8)
    posterior = built(samples, inflation=1.5)
    mean = samples.mean(0)
    torch.testing.assert_close(posterior.samples, mean + 1.5 * (samples - mean), **ROUNDING)
    torch.testing.assert_close(posterior.std, 1.5 * samples.std(0), **ROUNDING)
    assert torch.equal(posterior.estimate, built(samples).estimate)


@pytest.mark.parametrize("keep", [True, False])
def test_joined_groups_are_one_batch(keep: bool) -> None:
    samples = drawn(6)
    whole = built(samples, keep)
    parts = [built(samples[:, i : i + 1], keep) for i in range(2)]
    joined = join(parts)
    assert joined.count == whole.count
    assert joined.provenance == whole.provenance
    assert joined.nfe == whole.nfe
    for name in ("estimate", "mean", "std"):
        torch.testing.assert_close(getattr(joined, name), getattr(whole, name), **ROUNDING)
    torch.testing.assert_close(joined.bounds().upper, whole.bounds().upper, **ROUNDING)
    if keep:
        torch.testing.assert_close(joined.samples, whole.samples, **ROUNDING)
    else:
        assert joined.kept is None


@pytest.mark.parametrize(("count", "alpha"), [(0, 0.1), (4, 0.0), (4, 1.0)])
def test_senseless_settings_are_refused(count: int, alpha: float) -> None:
    with pytest.raises(InputError, match="alpha"):
        PosteriorBuilder(count, True, alpha)


def test_an_unconfined_prior_keeps_its_tails_and_shows_samples_in_range() -> None:
    wide = 0.5 + torch.linspace(-1, 1, 8).reshape(8, 1, 1, 1, 1).expand(8, *SHAPE)
    builder = PosteriorBuilder(8, True, 0.1, confined=False)
    builder.add(wide, wide)
    posterior = builder.build(Provenance("m", "denoise", steps=1, samples=8))
    torch.testing.assert_close(posterior.std, wide.std(dim=0))
    assert float(posterior.bounds(0.1).lower.min()) == -0.5
    assert posterior.samples.min() == 0
    assert posterior.samples.max() == 1
