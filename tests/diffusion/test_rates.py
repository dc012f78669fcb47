"""Rates from errors: the closed form of Gaussian pictures."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from certes.diffusion.denoiser import Denoised
from certes.diffusion.problems import GaussianProblem
from certes.diffusion.rates import RateCurve, error_variance
from certes.errors import ModelError

LEVELS = torch.logspace(-3, 2, 201, dtype=torch.float64)


def curve(problem: GaussianProblem) -> RateCurve:
    noise = LEVELS[:, None] ** 2
    mse = (problem.eigenvalues * noise / (problem.eigenvalues + noise)).mean(dim=1)
    return RateCurve(LEVELS, mse, torch.ones_like(mse))


def mutual_information(problem: GaussianProblem, sigma: Tensor) -> Tensor:
    """Bits per value that ``x_0 + sigma e`` tells of ``x_0``."""
    return torch.log2(1 + problem.eigenvalues / sigma[:, None] ** 2).mean(dim=1) / 2


def test_the_integral_of_the_error_is_the_information(gaussian: GaussianProblem) -> None:
    sigma = torch.tensor([0.0015, 0.01, 0.077, 0.5, 3.0, 40.0], dtype=torch.float64)
    expected = mutual_information(gaussian, sigma)
    torch.testing.assert_close(curve(gaussian).rate(sigma), expected, rtol=2e-4, atol=1e-9)
    # One number as well as many.
    assert float(curve(gaussian).rate(0.5)) == pytest.approx(float(expected[3]), rel=2e-4)


def test_beyond_the_highest_level_the_error_is_constant(gaussian: GaussianProblem) -> None:
    known = curve(gaussian)
    expected = known.mse[-1] / (2 * math.log(2) * 1000.0**2)
    assert float(known.rate(1000.0)) == pytest.approx(float(expected))


def test_few_levels_are_enough_where_the_error_is_a_power(gaussian: GaussianProblem) -> None:
    levels = torch.tensor([0.01, 0.1, 10.0], dtype=torch.float64)
    power = RateCurve(levels, 0.3 * levels**0.5, levels)
    # mse = .3 snr^(-1/4): its integral is .4 snr^(3/4).
    snr = torch.tensor([100.0, 0.04**-2], dtype=torch.float64)
    added = power.rate(snr**-0.5) - power.rate(10.0)
    expected = 0.4 * (snr**0.75 - 0.01**0.75) / (2 * math.log(2))
    torch.testing.assert_close(added, expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(power.mse_at(0.04), torch.tensor(0.3 * 0.2, dtype=torch.float64))


def test_it_survives_json(gaussian: GaussianProblem) -> None:
    known = curve(gaussian)
    again = RateCurve.from_dict(known.to_dict())
    assert torch.equal(again.mse, known.mse)
    assert torch.equal(again.levels, known.levels)


@pytest.mark.parametrize(
    "columns",
    [
        {"levels": [1.0, 2.0], "mse": [1.0], "tail": [1.0, 2.0]},
        {"levels": [2.0, 1.0], "mse": [1.0, 1.0], "tail": [1.0, 2.0]},
        {"levels": [1.0, 2.0], "mse": [1.0, float("nan")], "tail": [1.0, 2.0]},
        {"levels": [1.0, 2.0], "mse": [1.0, 0.0], "tail": [1.0, 2.0]},
        {"levels": [1.0, 2.0], "mse": "xy", "tail": [1.0, 2.0]},
        {"levels": [1.0, 2.0], "tail": [1.0, 2.0]},
    ],
)
def test_what_is_no_curve_is_refused(columns: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="rates"):
        RateCurve.from_dict(columns)


def test_the_best_known_variance_is_used(gaussian: GaussianProblem) -> None:
    denoiser, sigma = gaussian.denoiser(), torch.tensor([0.1], dtype=torch.float64)
    denoised = denoiser(gaussian.sample(1, 0), sigma)
    exact = denoiser.covariance(denoised, sigma).diagonal()
    assert torch.equal(error_variance(denoiser, denoised, sigma, 7.0), exact)

    class Unmeasured(type(denoiser)):  # type: ignore[misc]
        def covariance(self, *_: object) -> None:
            raise ModelError("model: no residual spectrum")

    blind = Unmeasured(gaussian)
    assert error_variance(blind, denoised, sigma, 7.0) is not exact
    assert denoised.variance is not None
    assert torch.equal(error_variance(blind, denoised, sigma, 7.0), denoised.variance.double())
    silent = Denoised(denoised.mean)
    assert bool((error_variance(blind, silent, sigma, 7.0) == 7.0).all())
