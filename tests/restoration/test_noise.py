"""Noise levels are found on flat, smooth, textured, dark, clipped and saturated pictures, and how
far they are from the truth is said honestly."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from certes.data.bundled import bundled_pictures
from certes.errors import InputError
from certes.restoration.noise import estimate_noise, measure_noise


def noisy(x: Tensor, sigma: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return x + sigma * torch.randn(x.shape, generator=generator)


def stored(x: Tensor) -> Tensor:
    """What an 8-bit file makes of a picture."""
    return (x.clamp(0, 1) * 255).round() / 255


def cells(height: int = 192, width: int = 256) -> Tensor:
    """Bright soft disks on a dark field."""
    generator = torch.Generator().manual_seed(7)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    picture = torch.full((height, width), 0.02)
    for row, column in torch.rand(12, 2, generator=generator) * torch.tensor([height, width]):
        radius = ((rows - row) ** 2 + (columns - column) ** 2).sqrt()
        picture = torch.maximum(picture, 0.6 * torch.sigmoid((12 - radius) / 1.5))
    return picture[None, None]


@pytest.mark.parametrize("sigma", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("channels", [1, 3])
def test_flat_and_sloping_pictures(sigma: float, channels: int) -> None:
    slope = torch.linspace(0, 1, 160).expand(1, channels, 120, 160)
    for x in (torch.full_like(slope, 0.5), slope):
        assert float(estimate_noise(noisy(x, sigma))) == pytest.approx(sigma, rel=0.03)


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.2])
def test_cells_on_a_dark_field(sigma: float) -> None:
    assert float(estimate_noise(noisy(cells(), sigma))) == pytest.approx(sigma, rel=0.05)


@pytest.mark.parametrize("sigma", [0.03, 0.1, 0.2])
def test_dark_pictures_that_a_file_has_clipped(sigma: float) -> None:
    y = stored(noisy(cells(), sigma))
    assert float(estimate_noise(y)) == pytest.approx(sigma, rel=0.08)
    # The control: the same pixels, shown as if they had never been clipped, are misjudged.
    unaware = torch.cat([y, -torch.ones(1, 1, 1, 256)], dim=2)
    assert float(estimate_noise(unaware)) < 0.85 * sigma


def test_bright_pictures_that_a_file_has_clipped() -> None:
    y = stored(noisy(1 - cells(), 0.1))
    assert float(estimate_noise(y)) == pytest.approx(0.1, rel=0.08)


def test_saturated_areas_do_not_pass_for_quiet_ones() -> None:
    x = torch.full((1, 1, 128, 128), 0.5)
    x[..., :80] = 1.6
    assert float(estimate_noise(stored(noisy(x, 0.1)))) == pytest.approx(0.1, rel=0.08)


def test_texture_on_a_third_of_the_picture_does_not_count_as_noise() -> None:
    x = torch.full((1, 1, 144, 144), 0.5)
    generator = torch.Generator().manual_seed(1)
    x[..., :48] += 0.2 * torch.rand(1, 1, 144, 48, generator=generator)
    assert float(estimate_noise(noisy(x, 0.02))) == pytest.approx(0.02, rel=0.12)


def test_every_picture_has_its_own_level() -> None:
    x = torch.full((3, 1, 96, 96), 0.5)
    sigma = torch.tensor([0.02, 0.1, 0.3])
    found = estimate_noise(noisy(x, 1.0) * sigma.reshape(3, 1, 1, 1) + 0.5)
    torch.testing.assert_close(found, sigma, rtol=0.06, atol=0)
    assert found.dtype == x.dtype


def test_pictures_without_noise() -> None:
    assert float(estimate_noise(torch.zeros(1, 1, 64, 64))) == 0
    assert float(estimate_noise(torch.full((1, 3, 64, 64), 0.4))) < 1e-6
    assert float(estimate_noise(cells())) < 0.004


def test_small_pictures() -> None:
    x = torch.full((400, 1, 5, 7), 0.5)
    assert float(estimate_noise(noisy(x, 0.1)).mean()) == pytest.approx(0.1, rel=0.25)


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (torch.zeros(1, 1, 2, 9), "at least 3 x 3"),
        (torch.zeros(9, 9), "B, C, H, W"),
        (torch.full((1, 1, 9, 9), torch.nan), "not finite"),
        (torch.zeros(1, 1, 9, 9, dtype=torch.uint8), "uint8"),
    ],
)
def test_bad_pictures_are_explained(y: Tensor, words: str) -> None:
    with pytest.raises(InputError, match=words):
        estimate_noise(y)


def smooth_pictures() -> list[Tensor]:
    down, right = torch.meshgrid(torch.arange(256) / 256, torch.arange(256) / 256, indexing="ij")
    waves = 0.5 + 0.3 * torch.sin(6 * down) * torch.cos(5 * right)
    return [x[None, None] for x in (torch.full((256, 256), 0.5), waves, 0.2 + 0.6 * down)]


def real_pictures() -> list[Tensor]:
    return [picture.pixels[None] for picture in bundled_pictures()]


@pytest.mark.parametrize("pictures", [smooth_pictures, real_pictures])
@pytest.mark.parametrize("clipped", [False, True])
def test_the_truth_is_within_two_deviations(
    pictures: Callable[[], list[Tensor]], clipped: bool
) -> None:
    errors: list[float] = []
    for seed, sigma in enumerate((0.02, 0.04, 0.07, 0.12, 0.2)):
        for x in pictures():
            y = noisy(x, sigma, seed)
            found = measure_noise(stored(y) if clipped else y)
            errors.append(float((found.level - sigma).abs() / found.deviation))
            # Not by being wide: a part of the level, the smaller the cleaner the blocks are.
            assert float(found.deviation) < (0.12 if pictures is real_pictures else 0.06) * sigma
    within = torch.tensor(errors) <= 2
    assert float(within.double().mean()) >= 0.9
    # The control: a tenth of the deviation is not enough.
    assert float((torch.tensor(errors) <= 0.2).double().mean()) < 0.7


def test_texture_widens_the_deviation() -> None:
    x = torch.full((1, 1, 144, 144), 0.5)
    generator = torch.Generator().manual_seed(1)
    plain = measure_noise(noisy(x, 0.02))
    x[..., :72] += 0.1 * torch.rand(1, 1, 144, 72, generator=generator)
    textured = measure_noise(noisy(x, 0.02))
    assert float(textured.deviation) > 1.5 * float(plain.deviation)
    assert float((textured.level - 0.02).abs()) < 2 * float(textured.deviation)


def test_larger_pictures_are_better_known() -> None:
    deviations = [
        float(measure_noise(noisy(torch.full((1, 1, side, side), 0.5), 0.1)).deviation)
        for side in (32, 64, 512)
    ]
    assert deviations[0] > deviations[1] > deviations[2]


def test_both_functions_give_the_same_level() -> None:
    y = torch.cat([noisy(cells(), sigma) for sigma in (0.02, 0.1)])
    assert torch.equal(measure_noise(y).level, estimate_noise(y))


def test_drawn_levels_are_positive_with_the_stated_median_and_spread() -> None:
    found = measure_noise(noisy(cells(96, 96), 0.1))
    deviates = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    drawn = type(found)(found.level.expand(20_000), found.deviation.expand(20_000)).draw(deviates)
    assert bool((drawn > 0).all())
    torch.testing.assert_close(drawn.median(), found.level[0], rtol=0.01, atol=0)
    torch.testing.assert_close(drawn.std(), found.deviation[0], rtol=0.05, atol=0)
