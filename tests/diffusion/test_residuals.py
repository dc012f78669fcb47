"""The error covariance of a trained denoiser: a covariance, and the same field at any size."""

from __future__ import annotations

import math

import pytest
import torch

from certes.diffusion.bases import CosineBasis
from certes.diffusion.residuals import ResidualSpectrum, SpectralCovariance
from certes.errors import ModelError


def random(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def dense(covariance: SpectralCovariance, shape: tuple[int, int, int]) -> torch.Tensor:
    """The matrix, one column for each pixel; one for each picture of the batch."""
    n = math.prod(shape)
    batch = len(covariance.spectrum)
    columns = torch.eye(n, dtype=torch.float64).reshape(n, 1, *shape)
    applied = [covariance.apply(c.expand(batch, *shape)).flatten(1) for c in columns]
    return torch.stack(applied, dim=2)


def test_spectral_covariance_is_the_dense_matrix() -> None:
    shape = (2, 4, 3)
    spectrum, deviation = random(3, *shape) + 0.1, random(3, *shape) + 0.2
    matrices = dense(SpectralCovariance(spectrum, deviation), shape)
    unit = torch.eye(24, dtype=torch.float64).reshape(24, *shape)
    transform = CosineBasis().forward(unit).flatten(1).T  # column for pixel, row for coefficient
    for b in range(3):
        root = torch.diag(deviation[b].flatten())
        inner = transform.T @ torch.diag(spectrum[b].flatten()) @ transform
        torch.testing.assert_close(matrices[b], root @ inner @ root, rtol=0, atol=1e-12)


def test_spectral_covariance_is_symmetric_and_positive() -> None:
    shape = (1, 4, 5)
    matrices = dense(SpectralCovariance(random(2, *shape) ** 4, random(2, *shape)), shape)
    torch.testing.assert_close(matrices, matrices.mT, rtol=0, atol=1e-14)
    assert torch.linalg.eigvalsh(matrices).min() > -1e-14


def test_diagonal_has_the_right_mean() -> None:
    """Exact where the spectrum is flat; elsewhere right on average over a picture."""
    shape = (1, 6, 4)
    spectrum, flat = random(2, *shape), torch.ones(2, *shape, dtype=torch.float64)
    for deviation in (flat, 0.3 * flat):
        covariance = SpectralCovariance(spectrum, deviation)
        exact = dense(covariance, shape).diagonal(dim1=1, dim2=2).mean(dim=1)
        torch.testing.assert_close(covariance.diagonal().mean(dim=(1, 2, 3)), exact)
    covariance = SpectralCovariance(flat, random(2, *shape))
    exact = dense(covariance, shape).diagonal(dim1=1, dim2=2).reshape(2, *shape)
    torch.testing.assert_close(covariance.diagonal(), exact)


def test_measured_levels_and_between() -> None:
    levels = torch.tensor([0.01, 0.1, 1.0], dtype=torch.float64)
    spectrum = ResidualSpectrum(levels, random(3, 2, 8, 8) + 0.1)
    torch.testing.assert_close(spectrum.at(levels, (8, 8)), spectrum.spectra)
    outside = torch.tensor([1e-5, 7.0], dtype=torch.float64)
    torch.testing.assert_close(spectrum.at(outside, (8, 8)), spectrum.spectra[[0, 2]])
    between = spectrum.at(torch.tensor([10**-1.5], dtype=torch.float64), (8, 8))
    torch.testing.assert_close(between[0], (spectrum.spectra[0] * spectrum.spectra[1]).sqrt())


def field_spectrum(size: int, reach: float, sigma: float) -> torch.Tensor:
    """Exact variances of the cosine coefficients of a stationary residual, on a square of any size.

    The residual of the exact denoiser of a field with exponential correlation along each axis is
    taken on a long circle: power spectrum S sigma^2 / (S + sigma^2).
    """
    lag = torch.arange(2048, dtype=torch.float64)
    circle = torch.minimum(lag, 2048 - lag)
    line = torch.fft.fft((-circle / reach).exp()).real
    power = line[:, None] * line
    residual = torch.fft.ifft2(power * sigma**2 / (power + sigma**2)).real[:size, :size]
    index = (torch.arange(size)[:, None] - torch.arange(size)).abs()
    unit = torch.eye(size, dtype=torch.float64)[:, None, :, None]
    cosines = CosineBasis().forward(unit)[:, 0, :, 0]  # pixel, frequency
    products = (cosines[:, None, :] * cosines[None, :, :]).reshape(size * size, size)
    # coefficient (k, l): sum over lags (i - i', j - j') of r(lag) c_ik c_i'k c_jl c_j'l
    by_row = torch.zeros(size, size, dtype=torch.float64).index_add_(0, index.flatten(), products)
    return by_row.T @ residual @ by_row


@pytest.mark.parametrize(("reach", "sigma"), [(2.0, 0.3), (4.0, 1.0), (4.0, 5.0)])
@pytest.mark.parametrize("size", [24, 48, 80])
def test_other_sizes_are_the_same_field(reach: float, sigma: float, size: int) -> None:
    measured = field_spectrum(32, reach, sigma)
    levels = torch.tensor([0.5, 1.0], dtype=torch.float64)
    spectrum = ResidualSpectrum(levels, measured.expand(2, 1, 32, 32))
    answer = spectrum.at(levels[:1], (size, size))[0, 0]
    exact = field_spectrum(size, reach, sigma)
    assert answer.mean() / exact.mean() == pytest.approx(1, abs=0.02)  # the variance of a pixel
    assert (answer / exact).log().abs().mean() < 0.06
    assert (answer / exact).log().abs().max() < 0.35  # at the lowest frequencies


def test_sizes_need_not_be_square() -> None:
    levels = torch.tensor([0.1, 1.0])
    falling = torch.linspace(2, 1, 16).expand(16, 16)  # along columns only
    spectrum = ResidualSpectrum(levels, falling.expand(2, 1, 16, 16))
    answer = spectrum.at(levels, (5, 40))
    assert answer.shape == (2, 1, 5, 40)
    torch.testing.assert_close(answer, answer[:, :, :1].expand_as(answer))
    assert bool((answer.diff(dim=3) <= 0).all())


@pytest.mark.parametrize(
    "spectra", [torch.ones(3, 1, 4, 4), torch.ones(2, 4, 4), torch.zeros(2, 1, 4, 4)]
)
def test_refuses_what_is_no_spectrum(spectra: torch.Tensor) -> None:
    with pytest.raises(ModelError, match="levels, spectra"):
        ResidualSpectrum(torch.tensor([0.1, 1.0]), spectra)
