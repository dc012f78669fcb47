"""The measured filter, against closed forms of Gaussian fields."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from certes.diffusion.bases import CosineBasis
from certes.errors import ModelError
from certes.function_space.fields import GaussianField
from certes.function_space.filter_measuring import (
    FREQUENCIES,
    ROUNDING,
    fitted_power_law,
    measure_filter,
)
from certes.function_space.mollifier import Mollifier, squared_frequencies
from certes.function_space.unmollify import (
    FINEST,
    PowerLaw,
    SpectralFilter,
    WienerFilter,
    filter_from_tensors,
)

from .stub_network import SCALE, Answer, in_cosines, stub_denoiser

SIDE, COUNT = 32, 96
LEVELS = torch.tensor([0.02, 0.1, 0.5], dtype=torch.float64)
NODES = torch.linspace(0, FINEST, FREQUENCIES, dtype=torch.float64)
TAU = 0.05


def power(squared: Tensor) -> Tensor:
    """The field's spectrum, network units."""
    return 2.0 / (0.2 + squared)


def symbol(squared: Tensor) -> Tensor:
    return (-squared * 0.75**2 / 2).exp()


@pytest.fixture(scope="module")
def patches() -> Tensor:
    field = GaussianField(lambda squared: SCALE**2 * power(squared), mean=0.5)
    return field.sample(COUNT, (SIDE, SIDE), seed=1).float()


def exact(squared: Tensor, level: float) -> Tensor:
    return power(squared) / (power(squared) + level**2)


def erring(seed: int) -> Answer:
    """The exact answer and white noise of its own."""
    generator = torch.Generator().manual_seed(seed)

    def answer(blurred: Tensor, level: float, pitch: float) -> Tensor:
        right = in_cosines(exact)(blurred, level, pitch)
        return right + TAU * torch.randn(blurred.shape, generator=generator)

    return answer


def test_an_exact_network_needs_no_noisy_picture(patches: Tensor) -> None:
    """A = 1/g and B = 0 wherever single precision leaves something of the blur."""
    measured = measure_filter(stub_denoiser(in_cosines(exact)), patches, LEVELS)
    low = (NODES > 0.2) & (NODES < 2.5)
    gain = measured.of_estimate.double() * symbol(NODES**2)
    assert (gain[:, low] - 1).abs().max() < 0.08
    assert (gain[:2, low] - 1).abs().max() < 0.02
    assert measured.of_seen[:, low].abs().max() < 0.02
    assert torch.equal(measured.of_blur[:, low], measured.of_estimate[:, low])


def test_gains_are_those_of_the_regression(patches: Tensor) -> None:
    """With errors of its own the estimate says nothing that the noisy picture does not say better.

    Beside u, m = g w u + tau e is worth nothing: A = 0 and B = w. Alone it is worth what the
    Wiener filter of its error says.
    """
    measured = measure_filter(stub_denoiser(erring(0)), patches, LEVELS)
    squared, high = NODES**2, slice(6, -3)
    for i, level in enumerate(LEVELS / SCALE):
        wiener, g = exact(squared, float(level)), symbol(squared)
        estimate = g * wiener
        alone = estimate * power(squared) / (g * estimate * power(squared) + TAU**2)
        # As fractions of what would undo the blur of an exact network.
        difference = (measured.of_blur[i] - alone) * estimate
        assert difference[high].abs().max() < 0.04
        together = measured.of_estimate[i] * estimate + measured.of_seen[i]
        assert (together - wiener)[high].abs().max() < 0.04
    # At the highest frequencies nothing of the blur is left above the error.
    assert (measured.of_seen[0] - exact(squared, float(LEVELS[0]) / SCALE))[20:].abs().max() < 0.04
    assert (measured.of_estimate[0] * symbol(squared))[20:].abs().max() < 0.04


def error(measured: SpectralFilter | WienerFilter, patches: Tensor, seed: int, know: bool) -> float:
    """Mean squared error of estimates of the noisy patches, of the erring network."""
    denoiser = stub_denoiser(erring(seed))
    denoiser.unmollify = measured
    noise = torch.randn(patches.shape, generator=torch.Generator().manual_seed(seed))
    sigma = torch.full((len(patches),), 0.1)
    x = patches + 0.1 * noise
    if know:
        return float((denoiser(x, sigma).mean - patches).square().mean())
    blurred = denoiser.reading.image(denoiser.reading.mollifier(denoiser.reading.normalised(x)))
    return float((denoiser.of_blur(blurred, sigma).mean - patches).square().mean())


def test_it_beats_the_papers_filter(patches: Tensor) -> None:
    measured = measure_filter(stub_denoiser(erring(0)), patches, LEVELS)
    paper = WienerFilter(Mollifier(0.75))
    errors = [error(f, patches, 5, know) for know in (True, False) for f in (measured, paper)]
    squared = squared_frequencies((SIDE, SIDE), 1.0)
    floor = float((exact(squared, 0.4) * 0.4**2).mean()) * SCALE**2
    assert floor * 0.97 < errors[0] < floor * 1.05  # knowing u nothing is lost
    assert errors[0] < errors[2] < errors[3]  # alone, it still beats the other
    assert errors[1] == pytest.approx(errors[3], rel=1e-3)  # which does not look at u


@pytest.mark.parametrize("exponent", [2.5, 4.0])
def test_the_power_law_is_found_below_rounding(exponent: float) -> None:
    law = PowerLaw(2e-4, exponent, math.pi)

    def spectrum(squared: Tensor) -> Tensor:
        return 2e-4 * (squared.clamp(min=0.1) / math.pi**2) ** (-exponent / 2)

    pictures = GaussianField(lambda squared: spectrum(squared), 0.5).sample(64, (64, 64), seed=2)
    rounded = (pictures * 255).round() / 255
    found = fitted_power_law(rounded - 0.5, ROUNDING)
    assert found.exponent == pytest.approx(law.exponent, abs=0.15)
    squared = torch.tensor([[math.pi**2, 4 * math.pi**2]], dtype=torch.float64)
    assert (found(squared) / law(squared)).log().abs().max() < 0.12
    # Fainter pictures, of half the rounding at the end of the octave: blind to rounding, the law
    # would level off.
    faint = 0.5 + (pictures - 0.5) * math.sqrt(ROUNDING / 2 / 2e-4)
    rounded = (faint * 255).round() / 255 - 0.5
    blind, knowing = (fitted_power_law(rounded, r).exponent for r in (1e-12, ROUNDING))
    assert blind < exponent - 0.3
    assert abs(knowing - exponent) < 0.3


def test_white_pictures_get_a_law_that_falls() -> None:
    """A camera's noise goes on to no function of finite variance."""
    white = torch.randn(8, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    found = fitted_power_law(white, 1e-5)
    assert found.exponent == 2.0
    assert 0.3 < found.power < 1.1
    nothing = fitted_power_law(torch.zeros(2, 1, 32, 32), 1e-5)
    assert 0 < nothing.power <= 1e-6


def test_small_pictures_leave_no_gap(patches: Tensor) -> None:
    small = measure_filter(stub_denoiser(erring(0)), patches[..., :16, :16], LEVELS[:2])
    assert all(bool(value.isfinite().all()) for value in small.to_tensors().values())
    assert torch.equal(small.of_seen[:, -1], small.of_seen[:, -2])


def test_same_seed_same_filter_and_back_from_tensors(patches: Tensor) -> None:
    first, again = (measure_filter(stub_denoiser(erring(0)), patches[:8], LEVELS) for _ in "ab")
    known = first.to_tensors()
    for name, value in again.to_tensors().items():
        assert torch.equal(value, known[name])
    other = measure_filter(stub_denoiser(erring(0)), patches[:8], LEVELS, seed=1)
    assert not torch.equal(other.of_seen, first.of_seen)
    back = filter_from_tensors(known)
    assert back.beyond == first.beyond
    x, sigma = CosineBasis().inverse(torch.rand(1, 1, 24, 40)), torch.tensor([0.3])
    assert torch.equal(back(x, x, sigma, 0.5), first(x, x, sigma, 0.5))
    with pytest.raises(ModelError, match="holds beyond, levels"):
        filter_from_tensors({name: known[name] for name in ("levels", "beyond")})
