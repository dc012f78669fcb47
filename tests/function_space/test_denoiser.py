"""An operator network as a denoiser of pictures of any resolution."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from certes.diffusion.bases import CosineBasis
from certes.diffusion.residuals import ResidualSpectrum
from certes.errors import ModelError
from certes.function_space.coordinates import Lattice, all_points, subset
from certes.function_space.fields import GaussianField
from certes.function_space.mollifier import Mollifier, squared_frequencies
from certes.function_space.unmollify import PowerLaw, SpectralFilter, WienerFilter

from .conftest import Make
from .stub_network import SCALE, in_cosines, stub_denoiser

SIGMA = torch.tensor([0.05, 0.3])


def power(squared: Tensor) -> Tensor:
    """Of a smooth field, network units: single precision holds all of its blur."""
    return 8.0 * torch.exp(-squared)


def exact(squared: Tensor, level: float) -> Tensor:
    return power(squared) / (power(squared) + level**2)


@pytest.mark.parametrize("pitch", [1.0, 0.5, 0.7, 2.0])
def test_an_exact_network_is_the_exact_denoiser(pitch: float) -> None:
    """Levels, units and areas: at every pitch the closed form of the field, by any way to ask."""
    field = GaussianField(lambda squared: SCALE**2 * power(squared), mean=0.5)
    shape, sigma = (24, 20), torch.tensor([0.2])
    reference = field.denoiser(Mollifier(0.75), pitch)
    denoiser = stub_denoiser(in_cosines(exact)).at(pitch)
    x = field.sample(1, shape, pitch, seed=3).float()
    x = x + 0.2 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    mollifier, reading = Mollifier(0.75), denoiser.reading
    blurred = reading.image(mollifier(reading.normalised(x), pitch))
    wanted = reference.blurred(blurred, sigma)
    torch.testing.assert_close(denoiser.blurred(blurred, sigma), wanted, atol=2e-5, rtol=0)
    # Undoing the blur is the filter's affair: with the paper's, of which the gain is known.
    gain = WienerFilter(mollifier).gain(shape, pitch)
    basis = CosineBasis()
    filtered = basis.inverse(basis.forward(reading.normalised(wanted)) * gain.float())
    for answer in (denoiser(x, sigma), denoiser.of_blur(blurred, sigma)):
        torch.testing.assert_close(answer.mean, reading.image(filtered), atol=2e-4, rtol=0)


def test_levels_are_of_area() -> None:
    """The same noise for each unit of area is more for each of smaller pixels."""
    denoiser = stub_denoiser(in_cosines(exact))
    torch.testing.assert_close(denoiser.level(SIGMA), SIGMA / SCALE)
    torch.testing.assert_close(denoiser.at(0.25).level(4 * SIGMA), denoiser.level(SIGMA))


@pytest.mark.parametrize("prediction", ["noise", "v", "x0"])
def test_every_prediction_is_read(make: Make, prediction: str) -> None:
    """What the network answers at the points is what the picture says, for whole batches."""
    denoiser, x = make(prediction), torch.rand(2, 1, 16, 24)
    reading, lattice = denoiser.reading, Lattice(16, 24)
    blurred = reading.mollifier(reading.normalised(x))
    points = all_points(lattice, 2)
    ratio = denoiser.level(SIGMA)[:, None, None, None] * reading.deviation(lattice)
    with torch.no_grad():
        mean, variance = denoiser.predict(
            points.values(blurred), points, points.values(ratio), denoiser.level(SIGMA)
        )
    assert variance is not None
    answer = denoiser.of_blur(reading.image(blurred), SIGMA)
    expected = points.picture(mean)
    if prediction != "x0":
        expected = denoiser.unmollify(expected, None, denoiser.level(SIGMA), 1.0)
    torch.testing.assert_close(answer.mean, reading.image(expected), atol=1e-5, rtol=1e-4)
    said = answer.variance
    assert said is not None
    torch.testing.assert_close(said, points.picture(variance) * reading.scale**2)
    plain = make(prediction, outputs=1)
    assert plain(x, SIGMA).variance is None


def test_items_of_a_batch_do_not_mix(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Portions, levels and codes are each picture's own."""
    denoiser = make()
    codes = denoiser.encode(torch.rand(3, 1, 16, 16))
    assert codes.shape == (3, 32)
    x, sigma = torch.rand(3, 1, 32, 32), torch.tensor([0.05, 0.3, 1.0])
    fine = denoiser.at(0.5, codes)
    together = fine(x, sigma).mean
    monkeypatch.setattr("certes.function_space.denoiser._AT_ONCE", 32 * 32)
    torch.testing.assert_close(fine(x, sigma).mean, together, atol=1e-5, rtol=1e-4)
    for i in range(3):
        alone = denoiser.at(0.5, codes[i : i + 1])(x[i : i + 1], sigma[i : i + 1]).mean
        torch.testing.assert_close(alone, together[i : i + 1], atol=1e-5, rtol=1e-4)
    one = denoiser.at(0.5, codes[:1])(x, sigma).mean
    torch.testing.assert_close(one[:1], together[:1], atol=1e-5, rtol=1e-4)
    assert (one[1:] - together[1:]).abs().max() > 1e-4
    assert (denoiser.at(0.5)(x, sigma).mean - together).abs().max() > 1e-4


def test_codes_come_from_some_pixels_too(make: Make) -> None:
    denoiser, x = make(), torch.rand(1, 1, 16, 16)
    lattice, generator = Lattice(16, 16), torch.Generator().manual_seed(0)
    whole, part = denoiser.encode(x), denoiser.encode(x, subset(lattice, 1, 0.5, generator))
    assert torch.equal(denoiser.encode(x, all_points(lattice, 1)), whole)
    assert not torch.equal(whole, part)
    assert not whole.requires_grad
    with pytest.raises(ModelError, match="has no encoder"):
        make(latent=0).encode(x)


def test_refusals_and_gradients(make: Make) -> None:
    denoiser = make()
    with pytest.raises(ModelError, match=r"trained on 1 channel\(s\), the picture has 3"):
        denoiser(torch.rand(1, 3, 16, 16), SIGMA[:1])
    x = torch.rand(1, 1, 16, 16)
    assert not denoiser(x, SIGMA[:1]).mean.requires_grad
    answer = denoiser(x.requires_grad_(), SIGMA[:1]).mean
    (slope,) = torch.autograd.grad(answer.sum(), x)
    assert slope.abs().max() > 0
    with torch.no_grad():
        assert not denoiser(x, SIGMA[:1]).mean.requires_grad


def test_the_covariance_is_that_of_a_finer_picture(make: Make) -> None:
    """Measured coefficients come first, the power law's posterior variance beyond."""
    denoiser, sigma = make(outputs=1), torch.tensor([0.1])
    white = torch.tensor([0.01, 1.0], dtype=torch.float64)
    denoiser.spectrum = ResidualSpectrum(white, torch.full((2, 1, 16, 16), 0.04))
    assert isinstance(denoiser.unmollify, SpectralFilter)
    law = denoiser.unmollify.beyond
    basis = CosineBasis()
    for pitch, side in ((0.5, 32), (1.0, 16), (2.0, 8)):
        there, x = denoiser.at(pitch), torch.rand(1, 1, side, side)
        covariance = there.covariance(there(x, sigma), sigma)
        applied = basis.forward(covariance.apply(basis.inverse(torch.ones(1, 1, side, side))))[0, 0]
        known = min(side, 16)
        # The same functions: coefficients of smaller pixels are larger by 1 / pitch.
        wanted = torch.full((known, known), 0.04 / pitch**2)
        torch.testing.assert_close(applied[:known, :known], wanted, rtol=1e-3, atol=1e-5)
        if pitch == 0.5:
            level = float(there.level(sigma))
            prior = law(squared_frequencies((side, side), pitch))
            beyond = prior * level**2 / (prior + level**2) * (there.reading.scale / pitch) ** 2
            torch.testing.assert_close(
                applied[16:, 16:], beyond[16:, 16:].float(), rtol=2e-3, atol=1e-6
            )


def test_the_filter_goes_on_beyond_the_training_pixels() -> None:
    """A fine picture's own noise is taken away by the power law, of which the gain is known."""
    law, pitch, side = PowerLaw(0.02, 3.0, math.pi), 0.25, 32
    levels, gains = torch.tensor([0.01, 1.0]), torch.zeros(2, 5)
    filtered = SpectralFilter(levels, gains, gains, gains, law)
    u = torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(0))
    answer = filtered(torch.zeros_like(u), u, torch.tensor([0.2]), pitch)
    squared = squared_frequencies((side, side), pitch)
    fine = squared > 2 * math.pi**2
    wanted = torch.where(fine, law(squared) / (law(squared) + 0.04), 0.0).float()
    basis = CosineBasis()
    torch.testing.assert_close(answer, basis.inverse(basis.forward(u) * wanted))
