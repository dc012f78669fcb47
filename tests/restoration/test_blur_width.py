"""The width of a Gaussian blur is found on synthetic and real pictures, and its error said."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from certes.data.bundled import bundled_pictures
from certes.errors import InputError
from certes.restoration import blur_width
from certes.restoration.blur_width import estimate_blur_width
from certes.restoration.operators import Blur, gaussian_kernel

MARGIN = 12


def scene(seed: int, slope: float = 2.2, side: int = 256) -> Tensor:
    """A Gaussian field whose power falls with frequency as in photographs, contrast .2."""
    size = side + 2 * MARGIN
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(size, size, generator=generator, dtype=torch.float64)
    f = torch.hypot(torch.fft.fftfreq(size)[:, None], torch.fft.fftfreq(size))
    weights = f.clamp(min=1 / size) ** (-slope / 2)
    field = torch.fft.ifft2(torch.fft.fft2(noise) * weights).real
    return (0.5 + 0.2 * field / field.std())[None, None]


def photographed(x: Tensor, sigma: float, noise: float, seed: int = 0) -> Tensor:
    """Blurred, cut from a larger scene, and noisy."""
    shape = (x.shape[1], x.shape[2], x.shape[3])
    y = Blur(shape, gaussian_kernel(sigma))(x)[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
    generator = torch.Generator().manual_seed(seed)
    return y + noise * torch.randn(y.shape, generator=generator, dtype=y.dtype)


def found(y: Tensor, noise: float) -> tuple[float, float]:
    estimate = estimate_blur_width(y, torch.full((1,), noise))
    return float(estimate.sigma), float(estimate.deviation)


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.5])
@pytest.mark.parametrize("noise", [0.01, 0.05])
def test_scenes_that_follow_the_law(sigma: float, noise: float) -> None:
    width, deviation = found(photographed(scene(0), sigma, noise), noise)
    assert width == pytest.approx(sigma, rel=0.2)
    assert deviation < 0.2 * sigma


def test_the_truth_is_within_two_deviations_on_real_pictures() -> None:
    errors: list[float] = []
    for seed, picture in enumerate(bundled_pictures()):
        for sigma in (1.0, 1.7, 2.5):
            y = photographed(picture.pixels[None].double(), sigma, 0.02, seed)
            width, deviation = found(y, 0.02)
            errors.append(abs(width - sigma) / deviation)
            assert deviation < 0.8
    assert float((torch.tensor(errors) <= 2).double().mean()) >= 0.8
    # The control: a fifth of the deviation is not enough.
    assert float((torch.tensor(errors) <= 0.4).double().mean()) < 0.5


def test_more_blur_is_found_to_be_more() -> None:
    x = scene(1)
    widths = [found(photographed(x, sigma, 0.02), 0.02)[0] for sigma in (0.5, 1.0, 1.5, 2.0, 3.0)]
    assert widths == sorted(widths)
    assert widths[-1] > 3 * widths[0]


def test_neither_contrast_nor_brightness_nor_direction_matters() -> None:
    y = photographed(scene(2), 1.5, 0.02)
    width, deviation = found(y, 0.02)
    assert found(0.4 * y + 0.3, 0.008) == pytest.approx((width, deviation), rel=1e-3)
    assert found(y.mT, 0.02) == pytest.approx((width, deviation), rel=1e-6)


def test_colours_are_averaged_and_so_is_their_noise() -> None:
    colours = photographed(scene(3).expand(1, 3, -1, -1), 2.0, 0.05)
    grey = colours.mean(dim=1, keepdim=True)
    assert found(colours, 0.05) == pytest.approx(found(grey, 0.05 / math.sqrt(3)), rel=1e-6)


def test_a_picture_that_says_nothing_leaves_what_was_known_before() -> None:
    # Mean and deviation of the Rayleigh distribution, but for what lies beyond the table.
    mean = blur_width._USUAL_WIDTH * math.sqrt(math.pi / 2)
    deviation = blur_width._USUAL_WIDTH * math.sqrt(2 - math.pi / 2)
    noise = 0.1 * torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    for y in (torch.full((1, 1, 64, 64), 0.3), 0.5 + noise):
        assert found(y, 0.1) == pytest.approx((mean, deviation), rel=0.2)


def test_noise_that_clipping_took_away_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [photographed(0.3 * scene(seed), 2.0, 0.1).clamp(min=0) for seed in range(4, 8)]

    def mean_width() -> float:
        return sum(found(y, 0.1)[0] for y in pictures) / len(pictures)

    assert mean_width() == pytest.approx(2.0, abs=0.25)
    # The control: taken at its word, the noise level hides what is there, as if it were blurred.
    monkeypatch.setattr(blur_width, "_floor", lambda noise_power, corner: noise_power)
    assert mean_width() > 2.3


def test_newtons_method_has_converged(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [photographed(scene(5), 1.0, 0.01), photographed(scene(6, 3.0), 3.0, 0.05)]
    before = [found(y, noise) for y, noise in zip(pictures, (0.01, 0.05), strict=True)]
    monkeypatch.setattr(blur_width, "_ROUNDS", 3 * blur_width._ROUNDS)
    after = [found(y, noise) for y, noise in zip(pictures, (0.01, 0.05), strict=True)]
    for one, other in zip(before, after, strict=True):
        assert one == pytest.approx(other, rel=1e-6)


def test_the_evidence_is_that_of_a_gaussian_where_all_is_gaussian() -> None:
    """Powers that are worth many values each, far above the noise, have Gaussian logarithms: the
    evidence is then a Gaussian density in them."""
    f = torch.linspace(0.02, 0.4, 10, dtype=torch.float64)
    mean, covariance = blur_width._PHOTOGRAPH.log_spectrum(f)
    worth, true_width = 1e5, 1.2
    log_power = mean - 4 * math.pi**2 * true_width**2 * f**2 + 0.2 * torch.sin(9 * f)
    spectrum = blur_width._Spectrum(f, log_power.exp(), torch.full_like(f, worth), 1e-30)
    blurs = -4 * math.pi**2 * blur_width._WIDTHS[:, None] ** 2 * f**2
    total = covariance + torch.eye(10, dtype=torch.float64) / worth
    density = torch.distributions.MultivariateNormal(mean, total)
    expected = density.log_prob(log_power - blurs)
    evidence = spectrum.log_evidence(blur_width._PHOTOGRAPH)
    difference = (evidence - expected)[expected > expected.max() - 30]
    assert len(difference) > 3
    torch.testing.assert_close(difference, difference[:1].expand_as(difference), atol=0.02, rtol=0)


def test_dark_fields_are_told_from_photographs() -> None:
    dark = [blur_width._dark_field(picture.pixels[0]) for picture in bundled_pictures()]
    assert sum(share > 0.5 for share in dark) >= 0.75 * len(dark)
    assert max(blur_width._dark_field(scene(seed)[0, 0]) for seed in range(8)) < 0.05


def test_every_picture_has_its_own_width() -> None:
    pictures = [photographed(scene(7), 1.0, 0.02), photographed(scene(8), 3.0, 0.05)]
    both = estimate_blur_width(torch.cat(pictures), torch.tensor([0.02, 0.05]))
    for index, (y, noise) in enumerate(zip(pictures, (0.02, 0.05), strict=True)):
        one = (float(both.sigma[index]), float(both.deviation[index]))
        assert one == pytest.approx(found(y, noise), rel=1e-6)
    assert both.sigma.dtype == torch.float64


@pytest.mark.parametrize(
    ("y", "noise", "words"),
    [
        (torch.zeros(1, 1, 31, 64), torch.zeros(1), "at least 32 x 32"),
        (torch.zeros(64, 64), torch.zeros(1), "B, C, H, W"),
        (torch.zeros(1, 1, 64, 64, dtype=torch.uint8), torch.zeros(1), "uint8"),
        (torch.full((1, 1, 64, 64), torch.nan), torch.zeros(1), "not finite"),
        (torch.zeros(2, 1, 64, 64), torch.zeros(1), "each of the 2 pictures"),
        (torch.zeros(1, 1, 64, 64), torch.tensor([-1.0]), "at least 0"),
    ],
)
def test_bad_arguments_are_explained(y: Tensor, noise: Tensor, words: str) -> None:
    with pytest.raises(InputError, match=words):
        estimate_blur_width(y, noise)
