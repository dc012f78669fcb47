"""From picture to file and back: exact where it says so, and worth its bits elsewhere."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from certes.data.bundled import bundled_pictures
from certes.diffusion.rates import RateCurve
from certes.errors import InputError, ModelError
from certes.generation import codec
from certes.generation.codec.container import overhead, unpack
from certes.networks.model import Model, load
from certes.training.rates import measure_rates

from .codec_case import pictures, problem, source

LEVELS = torch.logspace(-2.7, 1, 9, dtype=torch.float64)


@pytest.fixture(scope="module")
def nuclei() -> tuple[Model, RateCurve]:
    model = load("nuclei", "cpu")
    patches = torch.stack([p.pixels[:1, 64:96, 64:96] for p in bundled_pictures()])
    return model, measure_rates(model.denoiser, patches, LEVELS)


def mse(x: Tensor, y: Tensor) -> float:
    return float((x - y).double().square().mean())


# Without loss.


@pytest.mark.parametrize(("side", "channels"), [(16, 1), (9, 3)])
def test_lossless(side: int, channels: int) -> None:
    denoiser, rates = source(side, channels)
    for picture in pictures(3, side, channels):
        sent = codec.encode(picture, denoiser, rates=rates)
        got = codec.decode(sent.data, denoiser, rates=rates)
        assert sent.exact
        assert got.exact
        assert got.complete
        assert torch.equal(got.estimate, picture)
        assert got.dtype == "uint8"
        assert (got.steps, got.level) == (sent.steps, sent.level)
        assert torch.equal(got.knowledge.reconstruct("sample", steps=2), picture)


def test_pictures_of_extremes_are_lossless_too() -> None:
    """What the model never saw is dear, not impossible."""
    denoiser, rates = source(16)
    checkers = (torch.arange(256).reshape(1, 16, 16) % 2).float()
    for picture in (torch.zeros(1, 16, 16), torch.ones(1, 16, 16), checkers):
        sent = codec.encode(picture, denoiser, rates=rates)
        assert torch.equal(codec.decode(sent.data, denoiser, rates=rates).estimate, picture)
        assert len(sent.data) < 4 * 256


def test_real_pictures(nuclei: tuple[Model, RateCurve]) -> None:
    model, rates = nuclei
    for picture in bundled_pictures()[:2]:
        x = picture.pixels[:1, 100:131, 30:60]
        sent = codec.encode(x, model, rates=rates)
        assert torch.equal(codec.decode(sent.data, model, rates=rates).estimate, x)


def test_a_grey_model_sends_colours_one_by_one(nuclei: tuple[Model, RateCurve]) -> None:
    model, rates = nuclei
    grey = bundled_pictures()[0].pixels[:1, 100:116, 30:46]
    x = torch.cat([grey, grey.flip(1), grey.flip(2)])
    sent = codec.encode(x, model, rates=rates)
    assert torch.equal(codec.decode(sent.data, model, rates=rates).estimate, x)


# Rate and distortion.


def test_bits_are_close_to_the_ideal() -> None:
    """Above 0.3 bits a value; the frame of the file is 22 bytes whatever the picture."""
    denoiser, rates = source(32)
    seen = pictures(4, 32)
    files = [
        codec.encode(x, denoiser, rates=rates, bits_per_pixel=1.0, dtype="float32") for x in seen
    ]
    ideal = sum(file.ideal_bits for file in files)
    assert ideal > 0.3 * 1024 * len(files)
    assert sum(8 * len(unpack(file.data).stream) for file in files) < 1.35 * ideal
    sent, picture = files[0], seen[0]
    # What was sent is worth it: an ideal code needs no less than this for that error.
    eigenvalues = problem(32).eigenvalues
    level = torch.logspace(-3, 1, 4000, dtype=torch.float64)[:, None] ** 2
    errors = (eigenvalues * level / (eigenvalues + level)).mean(dim=1)
    found = int((errors <= mse(sent.estimate, picture)).sum()) - 1
    least = float(torch.log2(1 + eigenvalues / level[found]).sum()) / 2
    assert least < 8 * len(unpack(sent.data).stream) < 1.7 * least


def test_budgets_are_kept_and_buy_quality() -> None:
    denoiser, rates = source(16)
    picture, errors = pictures(1)[0], list[float]()
    for budget in (1.0, 2.0, 3.0):
        sent = codec.encode(picture, denoiser, rates=rates, bits_per_pixel=budget)
        assert 8 * len(sent.data) <= budget * 256
        assert 8 * len(sent.data) > budget * 256 - 80
        got = codec.decode(sent.data, denoiser, rates=rates)
        assert torch.equal(got.estimate, sent.estimate)
        assert not got.exact
        errors.append(mse(got.estimate, picture))
    assert errors == sorted(errors, reverse=True)
    # More than the picture needs: the picture itself.
    assert codec.encode(picture, denoiser, rates=rates, bits_per_pixel=12).exact
    # No more than the header takes: what every picture looks like.
    least = overhead(unpack(sent.data).header) + 8
    nothing = codec.encode(picture, denoiser, rates=rates, bits_per_pixel=8 * least / 256)
    assert nothing.steps == 0
    assert nothing.level == math.inf
    assert float((nothing.estimate - 0.5).abs().max()) < 0.01


def test_quality_is_reached_and_not_overshot() -> None:
    denoiser, rates = source(16)
    picture = pictures(1)[0]
    for quality in (22.0, 26.0):
        sent = codec.encode(picture, denoiser, rates=rates, quality=quality)
        assert quality <= -10 * math.log10(mse(sent.estimate, picture)) < quality + 2
    assert codec.encode(picture, denoiser, rates=rates, quality=80).exact
    with pytest.raises(InputError, match="quality: 80 dB"):
        codec.encode(picture, denoiser, rates=rates, quality=80, dtype="uint16")


def test_the_state_is_the_picture_with_noise_of_its_level() -> None:
    denoiser, rates = source(32)
    sizes, slopes = list[float](), list[float]()
    for picture in pictures(4, 32):
        sent = codec.encode(picture, denoiser, rates=rates, bits_per_pixel=1.0)
        got = codec.decode(sent.data, denoiser, rates=rates)
        residual = got.knowledge.x[0].double() - picture
        sizes.append(float(residual.std()) / got.level)
        contrast = picture.double() - 0.5
        slopes.append(float((residual * contrast).sum() / contrast.square().sum()))
    assert sum(sizes) / 4 == pytest.approx(1, abs=0.05)
    assert abs(sum(slopes) / 4) < 0.06


def lag(picture: Tensor) -> float:
    """The noise that is left over the noise that is believed to be left."""
    denoiser, rates = source(32)
    sent = codec.encode(picture, denoiser, rates=rates, bits_per_pixel=2.0, dtype="float32")
    got = codec.decode(sent.data, denoiser, rates=rates)
    return float((got.knowledge.x[0] - picture).std()) / got.level


def test_a_picture_unlike_the_model_keeps_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three times the contrast that the model expects; how much more it needs is told."""
    picture = (0.5 + 3 * (pictures(1, 32)[0] - 0.5)).clamp(0, 1)
    assert lag(picture) < 1.12
    # Negative control: if it is not told, the chain falls behind.
    monkeypatch.setattr("certes.generation.codec.portable.SCALES", range(1))
    assert lag(picture) > 1.3


# What the receiver makes of it.


@pytest.fixture(scope="module")
def coarse() -> tuple[Tensor, codec.Decoded]:
    denoiser, rates = source(32)
    picture = pictures(1, 32)[0]
    sent = codec.encode(picture, denoiser, rates=rates, bits_per_pixel=0.8)
    return picture, codec.decode(sent.data, denoiser, rates=rates)


def test_intervals_of_what_the_stream_leaves_open(coarse: tuple[Tensor, codec.Decoded]) -> None:
    picture, got = coarse
    posterior = got.knowledge.posterior(100, steps=12, seed=0)
    eigenvalues, noise = problem(32).eigenvalues, got.level**2
    exact = (eigenvalues * noise / (eigenvalues + noise)).mean().sqrt()
    assert float(posterior.std.mean()) == pytest.approx(float(exact), rel=0.06)
    bounds = posterior.bounds(alpha=0.1)
    covered = float(bounds.contains(picture[None]).double().mean())
    assert 0.84 < covered < 0.95
    # Negative control: a receiver that believes in twice the noise that there is.
    wrong = codec.Knowledge(**{**vars(got.knowledge), "level": got.level / 2})
    bounds = wrong.posterior(100, steps=12, seed=0).bounds(alpha=0.1)
    assert float(bounds.contains(picture[None]).double().mean()) < 0.84


def test_reconstructions(coarse: tuple[Tensor, codec.Decoded]) -> None:
    picture, got = coarse
    know = got.knowledge
    estimate = know.reconstruct()
    assert torch.equal(estimate, got.estimate)
    sample, other = (know.reconstruct("sample", seed=seed) for seed in (0, 1))
    assert torch.equal(sample, know.reconstruct("sample", seed=0))
    assert not torch.equal(sample, other)
    ode = know.reconstruct("ode", seed=0)
    assert torch.equal(ode, know.reconstruct("ode", seed=1))
    # A sample errs twice as much as the mean; the ODE lies between.
    assert mse(sample, picture) == pytest.approx(2 * mse(estimate, picture), rel=0.15)
    assert mse(estimate, picture) < mse(ode, picture) < mse(sample, picture)
    # Texture: the estimate has too little contrast, they have that of pictures.
    assert float(estimate.std()) < float(ode.std())
    with pytest.raises(InputError, match="reconstruction"):
        know.reconstruct("guess")  # pyright: ignore[reportArgumentType]


def test_nothing_sent_leaves_the_model_itself() -> None:
    denoiser, rates = source(16)
    sent = codec.encode(pictures(1)[0], denoiser, rates=rates, bits_per_pixel=0.8)
    nothing = codec.decode(sent.data[:30], denoiser, rates=rates)
    assert nothing.steps == 0
    posterior = nothing.knowledge.posterior(60, steps=20)
    assert float(posterior.std.mean()) == pytest.approx(0.12, rel=0.15)


# What is refused.


def test_senseless_requests(nuclei: tuple[Model, RateCurve]) -> None:
    denoiser, rates = source(16)
    grey = pictures(1)[0]
    for wrong, options in {
        "both given": {"bits_per_pixel": 1.0, "quality": 30.0},
        "above 0": {"quality": -1.0},
        "header alone": {"bits_per_pixel": 0.1},
        "cannot be sent without loss": {"dtype": "uint16"},
    }.items():
        with pytest.raises(InputError, match=wrong):
            codec.encode(grey, denoiser, rates=rates, **options)  # pyright: ignore
    for wrong, picture in {
        "shape": torch.zeros(2, 8, 8),
        "values from": torch.full((1, 8, 8), 1.5),
        "whole multiples": torch.full((1, 16, 16), 0.3333),
    }.items():
        with pytest.raises(InputError, match=wrong):
            codec.encode(picture, denoiser, rates=rates)
    with pytest.raises(InputError, match="values from nan"):
        codec.encode(torch.full((1, 16, 16), torch.nan), denoiser, rates=rates)
    with pytest.raises(ModelError, match="measure_rates"):
        codec.encode(grey, denoiser)


def test_another_model_is_named() -> None:
    denoiser, rates = source(16)
    sent = codec.encode(pictures(1)[0], denoiser, rates=rates, bits_per_pixel=1.0)
    others = RateCurve(rates.levels, rates.mse * 1.01, rates.tail)
    with pytest.raises(
        ModelError, match=r"made with model [0-9a-f]{8} .*Gaussian.* is [0-9a-f]{8}"
    ):
        codec.decode(sent.data, denoiser, rates=others)


def test_progress_is_told() -> None:
    denoiser, rates = source(16)
    told: list[tuple[int, int]] = []
    sent = codec.encode(
        pictures(1)[0], denoiser, rates=rates, callback=lambda *now: told.append(now)
    )
    assert told == [(k, sent.steps) for k in range(1, sent.steps + 1)]
    told.clear()
    codec.decode(sent.data, denoiser, rates=rates, callback=lambda *now: told.append(now))
    assert told == [(k, sent.steps) for k in range(1, sent.steps + 1)]
