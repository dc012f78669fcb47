"""Gain and read noise are found on smooth, textured, clipped and real pictures."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from certes.data.bundled import bundled_pictures
from certes.errors import InputError
from certes.restoration import signal_noise
from certes.restoration.noise_model import SignalNoise
from certes.restoration.signal_noise import measure_signal_noise


def exposed(x: Tensor, gain: float, read: float, seed: int = 0) -> Tensor:
    """A picture as photons of this gain and electronics of this read noise make it."""
    generator = torch.Generator().manual_seed(seed)
    y = gain * torch.poisson(x.double() / gain, generator) if gain else x.double()
    return y + read * torch.randn(x.shape, generator=generator, dtype=torch.float64)


def waves(side: int = 256) -> Tensor:
    """A smooth picture of all intensities between .1 and .9."""
    angles = torch.arange(side) / 25
    return (0.5 + 0.4 * torch.sin(angles)[:, None] * torch.cos(0.7 * angles))[None]


def brick(side: int = 256) -> Tensor:
    """The same with a weave of 5 pixels in every other column, wherever it is bright."""
    thread = torch.sin(torch.arange(side) * 2 * torch.pi / 5)
    columns = (torch.arange(side) // 32) % 2 == 0
    return (waves(side) + 0.4 * thread[:, None] * thread * columns * (waves(side) > 0.5)).clamp(
        min=0
    )


def deviation(noise: SignalNoise, signal: float) -> float:
    return (noise.gain * signal + noise.read**2) ** 0.5


@pytest.mark.parametrize(("gain", "read"), [(0.002, 0.02), (0.01, 0.03), (0.03, 0.06), (0.04, 0.1)])
def test_both_are_found_on_a_smooth_picture(gain: float, read: float) -> None:
    for seed in range(3):
        found = measure_signal_noise(exposed(waves(), gain, read, seed))
        assert found.gain == pytest.approx(gain, rel=0.12)
        assert found.read == pytest.approx(read, rel=0.15)
        for signal in (0.1, 0.5, 0.9):
            truth = deviation(SignalNoise(gain, read), signal)
            assert deviation(found, signal) == pytest.approx(truth, rel=0.05)


def test_photons_alone_leave_nothing_to_the_electronics() -> None:
    found = measure_signal_noise(exposed(waves(), 0.01, 0.0))
    assert found.gain == pytest.approx(0.01, rel=0.12)
    assert found.read**2 < 0.2 * 0.01 * 0.5


@pytest.mark.parametrize("read", [0.02, 0.1])
def test_noise_of_one_level_has_no_gain(read: float) -> None:
    for seed in range(3):
        found = measure_signal_noise(exposed(waves(), 0.0, read, seed))
        assert found.gain < 0.06 * read**2
        assert found.read == pytest.approx(read, rel=0.03)


def test_bright_texture_does_not_pass_for_photons(monkeypatch: pytest.MonkeyPatch) -> None:
    y = exposed(brick(), 0.01, 0.03)
    assert measure_signal_noise(y).gain == pytest.approx(0.01, rel=0.15)
    # The control: with all blocks kept, it does.
    monkeypatch.setattr(
        signal_noise._Blocks, "fitting", lambda blocks, gain, variance: blocks.clipped < 1
    )
    assert measure_signal_noise(y).gain > 0.0125


def test_clipped_and_stored_pictures() -> None:
    y = (exposed(1.2 * waves() - 0.08, 0.01, 0.03).clamp(0, 1) * 255).round() / 255
    found = measure_signal_noise(y)
    for signal in (0.3, 0.5, 0.7):
        truth = deviation(SignalNoise(0.01, 0.03), signal)
        assert deviation(found, signal) == pytest.approx(truth, rel=0.06)


def test_real_pictures() -> None:
    truth = SignalNoise(0.01, 0.03)
    for picture in bundled_pictures():
        found = measure_signal_noise(exposed(picture.pixels, truth.gain, truth.read))
        signals = (float(picture.pixels.median()), float(picture.pixels.quantile(0.98)))
        for signal in signals:
            assert deviation(found, signal) == pytest.approx(deviation(truth, signal), rel=0.1)


def test_channels_are_looked_at_together() -> None:
    x = torch.cat([waves(64), 0.5 * waves(64), 0.2 + 0.5 * waves(64)])
    found = measure_signal_noise(exposed(x, 0.01, 0.02))
    assert deviation(found, 0.5) == pytest.approx(deviation(SignalNoise(0.01, 0.02), 0.5), rel=0.1)


def test_a_picture_without_noise_has_what_rounding_adds() -> None:
    found = measure_signal_noise(torch.full((1, 64, 64), 0.4))
    assert found.gain == 0
    assert found.read == signal_noise.QUANTISATION


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (torch.zeros(1, 64, 64), "has 0 blocks of 8 x 8 pixels clear of 0 and 1"),
        (torch.full((1, 24, 24), 0.5), "has 4 blocks"),
        (torch.full((1, 9, 40), 0.5), "at least 13 pixels a side"),
        (torch.full((64, 64), 0.5), "C, H, W"),
        (torch.full((1, 64, 64), torch.nan), "finite"),
        (torch.zeros(1, 64, 64, dtype=torch.uint8), "uint8"),
    ],
)
def test_pictures_that_cannot_tell_are_explained(y: Tensor, words: str) -> None:
    with pytest.raises(InputError, match=words):
        measure_signal_noise(y)
