"""The discretisation certificate: good for an operator, bad for a network of pixels."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from certes.data.bundled import bundled_pictures
from certes.diffusion.bases import CosineBasis
from certes.function_space.certificate import (
    FINENESS,
    RATIOS,
    certificate,
    operator_error,
    spectral_distance,
)
from certes.function_space.mollifier import squared_frequencies

from .stub_network import in_cosines, stub_denoiser

SIDE = 24


@pytest.fixture(scope="module")
def patches() -> Tensor:
    picture = bundled_pictures()[-1].pixels[:, 128:152, 64:160]
    return torch.stack(torch.split(picture, SIDE, dim=2))


def wiener(squared: Tensor, level: float) -> Tensor:
    power = 2.0 / (0.2 + squared)
    return power / (power + level**2)


def in_pixels(blurred: Tensor, level: float, pitch: float) -> Tensor:
    """A mean over three by three pixels, whatever their size: what an ordinary network does."""
    return F.avg_pool2d(F.pad(blurred, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


def in_units(blurred: Tensor, level: float, pitch: float) -> Tensor:
    """A mean over offsets of a unit, between pixels by the cosine series: in_pixels at pitch 1."""
    basis, shape = CosineBasis(), (blurred.shape[-2], blurred.shape[-1])
    rows, columns = (torch.arange(n, dtype=torch.float64) * math.pi / (n * pitch) for n in shape)
    gains = (1 + 2 * rows.cos())[:, None] * (1 + 2 * columns.cos()) / 9
    return basis.inverse(basis.forward(blurred) * gains.to(blurred))


def test_an_operator_answers_alike_at_every_resolution(patches: Tensor) -> None:
    for answer in (in_cosines(wiener), in_units):
        told = certificate(stub_denoiser(answer), patches)
        assert set(told["operator_error"]) == {"2", "3", "4", "0.5"}
        assert max(told["operator_error"].values()) < 1e-4
        assert told["spectral_distance_db"]["2"] < 0.02
    assert told["aliased_energy"] == pytest.approx(math.erfc(0.75 * math.pi), rel=0.01)
    assert (told["functions"], told["noise_levels"]) == (4, list(RATIOS))


def test_a_network_of_pixels_does_not(patches: Tensor) -> None:
    """The negative control: the same answers as an operator's at pitch 1, and at no other."""
    x = torch.rand(1, 1, SIDE, SIDE)
    torch.testing.assert_close(in_pixels(x, 0.1, 1.0), in_units(x, 0.1, 1.0))
    told = certificate(stub_denoiser(in_pixels), patches)
    assert min(told["operator_error"].values()) > 0.01
    assert told["spectral_distance_db"]["2"] > 0.3


def test_the_error_is_that_of_the_gains(patches: Tensor) -> None:
    """An operator that answers (1 + e) times as much on fine lattices errs by e."""

    def louder(blurred: Tensor, level: float, pitch: float) -> Tensor:
        return in_cosines(wiener)(blurred, level, pitch) * (1.03 if pitch < 1 else 1.0)

    denoiser = stub_denoiser(louder)
    z0 = denoiser.reading.normalised(patches)
    for finer in FINENESS:
        wanted = 0.03 if finer > 1 else 0.0
        assert operator_error(denoiser, z0, finer) == pytest.approx(wanted, abs=1e-4)


def test_spectra_are_those_of_samples(patches: Tensor) -> None:
    """Fine samples that lack a band differ there only: so many decibels in so many bins."""

    def faint(blurred: Tensor, level: float, pitch: float) -> Tensor:
        answer = in_cosines(wiener)(blurred, level, pitch)
        basis = CosineBasis()
        squared = squared_frequencies((blurred.shape[-2], blurred.shape[-1]), pitch)
        band = (squared > (math.pi / 2) ** 2) & (pitch < 1)
        return basis.inverse(basis.forward(answer).masked_fill(band, 0.0))

    apart = spectral_distance(stub_denoiser(faint), SIDE)
    # The rounding of 8-bit pictures is what is left in half of the bins; whatever of the spectrum
    # stood above it there is the distance.
    assert apart > 3
    assert spectral_distance(stub_denoiser(in_cosines(wiener)), SIDE) < 0.02


def test_same_seed_same_certificate(patches: Tensor) -> None:
    denoiser = stub_denoiser(in_pixels)
    z0 = denoiser.reading.normalised(patches)
    first, again, other = (operator_error(denoiser, z0, 2.0, seed) for seed in (0, 0, 1))
    assert first == again != other
