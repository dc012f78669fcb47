from __future__ import annotations

import pytest
import torch

from certes.errors import InputError
from certes.intervals import corrected_probabilities, nominal_coverage, sample_bounds
from certes.intervals.quantiles import order_statistic


def test_nominal_coverage_of_few_samples() -> None:
    assert nominal_coverage(16, 0.1) == pytest.approx(15 / 17)
    assert nominal_coverage(19, 0.1) == pytest.approx(0.9)
    assert nominal_coverage(200, 0.1) == pytest.approx(181 / 201)
    assert nominal_coverage(1, 0.1) == 0


@pytest.mark.parametrize("samples", range(19, 400, 20))
def test_exact_levels_survive_floating_point(samples: int) -> None:
    assert order_statistic(samples, 0.1) == (samples + 1) // 20
    assert nominal_coverage(samples, 0.1) == pytest.approx(0.9)


@pytest.mark.parametrize("samples", [16, 39, 40])
def test_bounds_cover_an_exchangeable_truth_as_often_as_said(samples: int) -> None:
    draws = torch.rand(samples + 1, 1, 1, 200, 500, generator=torch.Generator().manual_seed(1))
    bounds = sample_bounds(draws[:-1], 0.1)
    coverage = float(bounds.contains(draws[-1]).float().mean())
    # 100 000 pixels: a standard error of 0.001. Interpolated quantiles would be 0.04 off or more.
    assert coverage == pytest.approx(nominal_coverage(samples, 0.1), abs=0.004)


def test_bounds_are_the_extremes_of_sixteen_samples() -> None:
    draws = torch.rand(16, 2, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    bounds = sample_bounds(draws, 0.1)
    assert torch.equal(bounds.lower, draws.amin(0))
    assert torch.equal(bounds.upper, draws.amax(0))
    torch.testing.assert_close(bounds.estimate, draws.mean(0))


def test_bounds_reach_an_estimate_given_from_outside() -> None:
    draws = torch.full((16, 1, 1, 2, 2), 0.5)
    bounds = sample_bounds(draws, 0.1, estimate=torch.full((1, 1, 2, 2), 0.75))
    assert (bounds.lower == 0.5).all()
    assert (bounds.upper == 0.75).all()


@pytest.mark.parametrize("samples", [1, 2, 16, 39, 100])
def test_corrected_probabilities_pick_the_order_statistics(samples: int) -> None:
    draws = torch.rand(samples, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    below, above = corrected_probabilities(samples, 0.1)
    k = order_statistic(samples, 0.1)
    torch.testing.assert_close(torch.quantile(draws, below), draws.sort().values[k - 1])
    torch.testing.assert_close(torch.quantile(draws, above), draws.sort().values[-k])


@pytest.mark.parametrize(("samples", "alpha"), [(0, 0.1), (16, 0.0), (16, 1.0)])
def test_refuses_impossible_levels(samples: int, alpha: float) -> None:
    with pytest.raises(InputError, match="samples, alpha"):
        nominal_coverage(samples, alpha)
