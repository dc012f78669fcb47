"""Stabilised noise has one level, and the inverse is unbiased, from a fraction of a photon up."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from certes.errors import InputError
from certes.restoration.noise_model import SignalNoise
from certes.restoration.variance_stabilising import VarianceStabiliser

LAWS = [(0.01, 0.0), (0.01, 0.005), (0.05, 0.02), (0.2, 0.0), (0.2, 0.15), (0.002, 0.03)]


def outcomes(x: float, gain: float, read: float) -> tuple[Tensor, Tensor]:
    """Values of y given x and their probabilities: photons times read noise on a fine grid."""
    photons = torch.arange(int(x / gain + 12 * math.sqrt(x / gain) + 30), dtype=torch.float64)
    counts = torch.distributions.Poisson(torch.tensor(x / gain, dtype=torch.float64))
    chances = counts.log_prob(photons).exp()
    deviates = torch.linspace(-8, 8, 2001 if read else 1, dtype=torch.float64)
    density = (-deviates.square() / 2).exp() if read else torch.ones(1, dtype=torch.float64)
    values = gain * photons[:, None] + (read * deviates if read else 0)
    return values, chances[:, None] * density / density.sum()


def moments(transform: VarianceStabiliser, x: float) -> tuple[Tensor, Tensor]:
    """Mean and variance of ``forward(y)`` given x."""
    y, chances = outcomes(x, transform.noise.gain, transform.noise.read)
    z = transform.forward(y)
    mean = (chances * z).sum()
    return mean, (chances * (z - mean) ** 2).sum()


@pytest.mark.parametrize(("gain", "read"), LAWS)
def test_the_noise_has_one_level_wherever_there_are_a_few_photons(gain: float, read: float) -> None:
    transform = VarianceStabiliser(SignalNoise(gain, read))
    for x in (3 * gain, 0.7, 1.0):
        _, variance = moments(transform, x)
        assert float(variance) == pytest.approx(transform.sigma**2, rel=0.05)
    # The control: without photons the noise is another, unless there is enough of the readout's.
    _, dark = moments(transform, 0.0)
    assert (float(dark) < 0.9 * transform.sigma**2) == (read < 2 * gain)


@pytest.mark.parametrize(("gain", "read"), LAWS)
def test_the_inverse_is_unbiased(gain: float, read: float) -> None:
    transform = VarianceStabiliser(SignalNoise(gain, read))
    for x in (0.0, 0.05 * gain, 0.4 * gain, gain, 3 * gain, 0.3, 1.0):
        mean, _ = moments(transform, x)
        assert float(transform.inverse(mean)) == pytest.approx(x, abs=1e-4 * gain)
    # The control: the algebraic inverse is too low, by a quarter of a photon where there are many.
    bias = (float(transform.algebraic_inverse(mean)) - 1) / gain
    assert bias == pytest.approx(-0.25, abs=0.01)


@pytest.mark.parametrize(("gain", "read"), [*LAWS, (1.0, 0.0), (1e-7, 0.05)])
def test_clean_pictures_keep_their_range_and_their_order(gain: float, read: float) -> None:
    transform = VarianceStabiliser(SignalNoise(gain, read))
    z = torch.linspace(0, 1.2, 50_001, dtype=torch.float64)
    x = transform.inverse(z)
    assert bool((x.diff() > 0).all())
    ends = transform.inverse(torch.tensor([-0.3, 0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(ends, torch.tensor([0.0, 0.0, 1.0]).double(), atol=1e-7, rtol=0)


def test_samples_and_ends_of_intervals_go_through_alike() -> None:
    transform = VarianceStabiliser(SignalNoise(0.02, 0.02))
    z = 0.4 + 0.1 * torch.randn(999, generator=torch.Generator().manual_seed(0)).double()
    end = z.kthvalue(900).values
    assert float(transform.inverse(z).kthvalue(900).values) == float(transform.inverse(end))
    # The mean does not: transforming it is not averaging what was transformed.
    assert float(transform.inverse(z.mean())) < float(transform.inverse(z).mean()) - 1e-3


@pytest.mark.parametrize(("gain", "read"), LAWS)
def test_the_algebraic_inverse_undoes_the_transform(gain: float, read: float) -> None:
    transform = VarianceStabiliser(SignalNoise(gain, read))
    y = torch.linspace(0, 1.3, 50, dtype=torch.float64).reshape(2, 1, 5, 5)
    torch.testing.assert_close(transform.algebraic_inverse(transform.forward(y)), y)


def test_without_a_gain_nothing_is_done() -> None:
    transform = VarianceStabiliser(SignalNoise(0.0, 0.07))
    y = torch.linspace(-0.2, 1.2, 12).reshape(1, 1, 3, 4)
    assert transform.sigma == 0.07
    for done in (transform.forward(y), transform.inverse(y), transform.algebraic_inverse(y)):
        assert torch.equal(done, y)


def test_a_vanishing_gain_is_close_to_none() -> None:
    transform = VarianceStabiliser(SignalNoise(1e-6, 0.07))
    y = torch.linspace(0, 1, 12).double()
    torch.testing.assert_close(transform.forward(y), y, atol=1e-3, rtol=0)
    assert transform.sigma == pytest.approx(0.07, rel=1e-3)


def test_pictures_keep_their_type_and_shape() -> None:
    transform = VarianceStabiliser(SignalNoise(0.02, 0.01))
    y = torch.rand(2, 3, 8, 9, generator=torch.Generator().manual_seed(0))
    for done in (transform.forward(y), transform.inverse(y), transform.algebraic_inverse(y)):
        assert done.dtype == y.dtype
        assert done.shape == y.shape


def test_a_range_of_less_than_a_photon_is_refused() -> None:
    with pytest.raises(InputError, match="one photon fills the range"):
        VarianceStabiliser(SignalNoise(2.0, 0.0))
