"""Times of a step: which are drawn, how often, and that weighting them changes no expectation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from certes.diffusion.schedules import Cosine, Schedule, linear_betas
from certes.training.config import TimesName
from certes.training.levels import LevelMoments
from certes.training.times import TimeSampler, importance, independent, probabilities, stratified

from .conftest import generator

CPU = torch.device("cpu")
TABLE = linear_betas(20, 0.01, 0.2)


def loss_of(t: Tensor) -> Tensor:
    """As the bound's terms: large at the clean end, tiny at the other."""
    return 5 * torch.exp(-8 * t) + 0.01


def trained(schedule: Schedule) -> TimeSampler:
    """An importance sampler that has seen the loss."""
    sampler, source = TimeSampler(schedule, "importance", CPU), generator(5)
    for _ in range(200):
        t = sampler.draw(256, source).t
        sampler.update(t, loss_of(t))
    return sampler


def test_stratified_numbers_are_one_in_each_stratum_in_random_order() -> None:
    t = stratified(generator(), 64)
    torch.testing.assert_close((t.sort().values * 64).floor(), torch.arange(64).double())
    assert not torch.equal(t, t.sort().values)
    assert not torch.equal(t, stratified(generator(1), 64))


@pytest.mark.parametrize("how", ["uniform", "stratified", "importance"])
def test_times_of_a_table_are_its_entries(how: TimesName) -> None:
    drawn = TimeSampler(TABLE, how, CPU).draw(20000, generator())
    index = TABLE.index(drawn.t)
    torch.testing.assert_close(index, index.round(), rtol=0, atol=1e-9)
    shares = torch.bincount(index.round().long(), minlength=20) / 20000
    assert len(shares) == 20
    # Independent draws scatter by .0015, stratified ones by nothing.
    assert (shares - 1 / 20).abs().max() < (0.007 if how == "uniform" else 1e-4)
    assert bool((drawn.weight == 1).all())


def test_uniform_times_are_independent() -> None:
    """Two of a batch fall into one stratum as often as chance has it; stratified ones never."""
    t = TimeSampler(Cosine(), "uniform", CPU).draw(1000, generator()).t
    empty = 1000 - len((t * 1000).long().unique())
    assert 300 < empty < 440  # e^-1 of them
    assert torch.equal(t, independent(generator(), 1000))


@pytest.mark.parametrize("schedule", [Cosine(), TABLE])
def test_importance_sampling_changes_the_variance_alone(schedule: Schedule) -> None:
    sampler = trained(schedule)
    uniform = TimeSampler(schedule, "uniform", CPU)
    entries = torch.arange(1, 21, dtype=torch.float64) / 20
    grid = entries if schedule is TABLE else (torch.arange(10**5).double() + 0.5) / 10**5
    expected = float(loss_of(grid).mean())
    source, estimates, plain, biased = generator(6), [], [], []
    for _ in range(500):
        drawn = sampler.draw(32, source)
        estimates.append(float((drawn.weight * loss_of(drawn.t)).mean()))
        biased.append(float(loss_of(drawn.t).mean()))
        plain.append(float(loss_of(uniform.draw(32, source).t).mean()))
    weighted, plain_, biased_ = (torch.tensor(v) for v in (estimates, plain, biased))
    error = float(weighted.std()) / 500**0.5
    assert abs(float(weighted.mean()) - expected) < 4 * error + 1e-3 * expected
    assert weighted.std() < 0.1 * plain_.std()
    assert float(biased_.mean()) > 1.5 * expected  # negative control: without the weights


def test_positions_have_the_density_of_the_probabilities() -> None:
    p = torch.tensor([0.5, 0.0625, 0.1875, 0.25], dtype=torch.float64)
    uniform = (torch.arange(16000).double() + 0.5) / 16000
    position, weight = importance(uniform, p)
    counts = torch.bincount((position * 4).long(), minlength=4)
    assert counts.tolist() == [8000, 1000, 3000, 4000]
    torch.testing.assert_close(weight, 1 / (4 * p[(position * 4).long()]))
    # Within a stratum they are spread evenly: the mean position is its middle.
    for k in range(4):
        inside = position[(position * 4).long() == k]
        assert float(inside.mean()) == pytest.approx((k + 0.5) / 4, abs=1e-3)


def test_probabilities_follow_the_root_mean_square_once_all_is_seen() -> None:
    moments = LevelMoments(4, CPU)
    middles = (torch.arange(4).double() + 0.5) / 4
    size = torch.tensor([4.0, 2.0, 1.0, 1.0])
    for visit in range(10):
        torch.testing.assert_close(probabilities(moments), torch.full((4,), 0.25).double())
        moments.update(middles, size * (-1) ** visit)  # of mean zero, so no mean would do
    expected = 0.999 * size.double() / 8 + 0.001 / 4
    torch.testing.assert_close(probabilities(moments), expected)


def test_moments_are_plain_means_at_first_and_running_ones_later() -> None:
    moments = LevelMoments(2, CPU)
    position = torch.tensor([0.1, 0.2, 0.9, 0.49])
    moments.update(position, torch.tensor([1.0, 2.0, 5.0, 6.0]))
    moments.update(position[:1], torch.tensor([7.0]))
    torch.testing.assert_close(moments.mean, torch.tensor([4.0, 5.0]).double())
    torch.testing.assert_close(moments.square, torch.tensor([(1 + 4 + 36 + 49) / 4, 25]).double())
    assert moments.visits.tolist() == [4, 1]
    for _ in range(1000):
        moments.update(position[:1], torch.tensor([3.0]))
    assert float(moments.mean[0]) == pytest.approx(3, abs=1e-6)  # the past is forgotten
    assert float(moments.mean[1]) == 5
