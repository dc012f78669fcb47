"""The measured error spectrum of a denoiser whose error spectrum is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from certes.diffusion.bases import CosineBasis
from certes.diffusion.denoiser import Denoised
from certes.diffusion.residuals import SpectralCovariance
from certes.training.residuals import LEVELS, measure_residuals

SIZE, COUNT = 8, 1000
BASIS = CosineBasis()
frequency = torch.arange(SIZE, dtype=torch.float64)
POWER = 0.04 / (1 + frequency[:, None] ** 2 + frequency**2)  # of a smooth stationary field


class Wiener:
    """``E[x_0 | x]`` of a field with this power spectrum about mid-grey, or off by a factor."""

    device = torch.device("cpu")

    def __init__(self, variance: float | None = None, factor: float = 1.0) -> None:
        self.variance, self.factor = variance, factor

    def __call__(self, x: Tensor, sigma: Tensor) -> Denoised:
        noise = sigma.to(x)[:, None, None, None] ** 2
        shrink = self.factor * POWER / (POWER + noise)
        mean = 0.5 + BASIS.inverse(shrink * BASIS.forward(x - 0.5))
        return Denoised(mean, None if self.variance is None else mean * 0 + self.variance)


@pytest.fixture(scope="module")
def patches() -> Tensor:
    e = torch.randn(
        COUNT, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    return 0.5 + BASIS.inverse(POWER.sqrt() * e)


def symmetric(spectrum: Tensor) -> Tensor:
    return (spectrum + spectrum.mT) / 2


@pytest.mark.parametrize("variance", [None, 0.3])
def test_closed_form(patches: Tensor, variance: float | None) -> None:
    levels = torch.tensor([0.01, 0.05, 0.3, 5.0], dtype=torch.float64)
    measured = measure_residuals(Wiener(variance), patches, levels)  # pyright: ignore
    assert measured.spectra.shape == (4, 1, SIZE, SIZE)
    for level, spectrum in zip(levels, measured.spectra[:, 0], strict=True):
        exact = POWER * level**2 / (POWER + level**2) / (variance or 1.0)
        ratio = spectrum / exact
        # A mean of 1000 squared normals is off by 4.5 %; over all frequencies by less than 1 %.
        assert ratio.mean() == pytest.approx(1, abs=0.025)
        assert (ratio - 1).abs().max() < 0.2
        torch.testing.assert_close(spectrum, spectrum.mT)


def test_pictures_that_are_not_turned_keep_rows_and_columns_apart(patches: Tensor) -> None:
    """Half the pictures' frequencies, taken away along the columns only."""
    kept = (frequency < SIZE / 2)[:, None].double()
    striped = 0.5 + BASIS.inverse(kept * BASIS.forward(patches - 0.5))
    levels = torch.tensor([0.1, 0.3], dtype=torch.float64)
    upright, turned = (
        measure_residuals(Wiener(), striped, levels, turned=way).spectra  # pyright: ignore
        for way in (False, True)
    )
    torch.testing.assert_close(turned, (upright + upright.mT) / 2)
    assert float((upright / upright.mT).max()) > 2


def test_a_worse_denoiser_has_a_larger_spectrum(patches: Tensor) -> None:
    """What is measured is the error made, not the error that an ideal network would make."""
    levels = torch.tensor([0.05, 0.3], dtype=torch.float64)
    measured = measure_residuals(Wiener(factor=0.5), patches, levels)  # pyright: ignore
    for level, spectrum in zip(levels, measured.spectra[:, 0], strict=True):
        shrink = 0.5 * POWER / (POWER + level**2)
        exact = (1 - shrink) ** 2 * POWER + shrink**2 * level**2
        assert (spectrum / exact).mean() == pytest.approx(1, abs=0.025)
        assert exact.sum() > 1.02 * (POWER * level**2 / (POWER + level**2)).sum()


def test_covariance_has_the_size_of_the_error(patches: Tensor) -> None:
    """From measurement to use: the pixel variance is the mean squared error."""
    sigma = torch.tensor([0.1], dtype=torch.float64)
    measured = measure_residuals(Wiener(), patches, LEVELS)  # pyright: ignore
    spectrum = measured.at(sigma, (SIZE, SIZE))
    covariance = SpectralCovariance(spectrum, spectrum.new_ones(1, 1, 1, 1))
    generator = torch.Generator().manual_seed(1)
    x = patches + 0.1 * torch.randn(patches.shape, generator=generator, dtype=torch.float64)
    error = Wiener()(x, sigma.expand(COUNT)).mean - patches
    ratio = covariance.diagonal().mean() / error.square().mean()
    assert ratio == pytest.approx(1, abs=0.05)


def test_seeds(patches: Tensor) -> None:
    levels = torch.tensor([0.05, 0.3], dtype=torch.float64)
    few = patches[:80]  # more than one chunk
    first, again, other = (
        measure_residuals(Wiener(), few, levels, seed).spectra  # pyright: ignore
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
