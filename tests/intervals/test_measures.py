"""What is measured is what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from certes.errors import InputError
from certes.evaluation.metrics import psnr
from certes.intervals.measures import area, mean_intensity, objects, otsu_threshold, psnr_of


def scene() -> torch.Tensor:
    """Two bright squares of 9 and 4 pixels, touching at a corner, and a speck, on dark ground."""
    picture = torch.full((1, 1, 12, 12), 0.1)
    picture[..., 1:4, 1:4] = 0.8
    picture[..., 4:6, 4:6] = 0.9
    picture[..., 9, 9] = 0.7
    return picture


def test_mean_intensity_is_over_the_region_and_all_channels() -> None:
    pictures = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    region = torch.rand(2, 1, 5, 4, generator=torch.Generator().manual_seed(1)) < 0.5
    expected = [pictures[i][:, region[i, 0]].double().mean().item() for i in range(2)]
    assert mean_intensity(region)(pictures) == pytest.approx(expected, rel=1e-12)


def test_an_empty_region_has_no_mean() -> None:
    with pytest.raises(InputError, match="region: one of them holds no pixels"):
        mean_intensity(torch.stack([torch.ones(1, 2, 2), torch.zeros(1, 2, 2)]).bool())


def test_area() -> None:
    assert area(0.5)(scene()) == pytest.approx([14 / 144])
    assert area(0.85)(scene()) == pytest.approx([4 / 144])
    assert area()(scene()) == pytest.approx([14 / 144])
    assert area(0.5).name == "share of pixels above 0.5"


def test_objects_are_connected_and_large_enough() -> None:
    assert objects(0.5)(scene()).tolist() == [3]
    assert objects(0.5, smallest=4)(scene()).tolist() == [2]
    assert objects(0.5, smallest=5)(scene()).tolist() == [1]
    assert objects(0.95)(scene()).tolist() == [0]
    assert objects()(torch.cat([scene(), torch.zeros(1, 1, 12, 12)])).tolist() == [3, 0]


def test_colours_are_averaged_before_a_threshold() -> None:
    picture = torch.zeros(1, 3, 2, 2)
    picture[0, :, 0, 0] = torch.tensor([1.0, 0.5, 0.3])
    assert area(0.59)(picture) == pytest.approx([0.25])
    assert area(0.61)(picture) == pytest.approx([0.0])


@pytest.mark.parametrize("seed", range(5))
def test_otsu_maximises_the_variance_between_classes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    means = np.where(rng.random((40, 40)) < 0.3, 0.7, 0.2)
    levels = (means + 0.12 * rng.standard_normal(means.shape)).clip(0, 1) * 255
    levels = levels.round()

    def between(threshold: float) -> float:
        low, high = levels[levels <= threshold], levels[levels > threshold]
        if not len(low) or not len(high):
            return 0.0
        return len(low) * len(high) * (low.mean() - high.mean()) ** 2

    best = max(map(between, range(256)))
    assert between(otsu_threshold(levels / 255) * 255) == pytest.approx(best, rel=1e-9)
    assert between(0.5 * 255) < best


def test_a_flat_picture_has_nothing_above_its_threshold() -> None:
    assert area()(torch.full((1, 1, 8, 8), 0.4)).tolist() == [0]


def test_psnr_is_that_of_the_metrics() -> None:
    generator = torch.Generator().manual_seed(0)
    estimate, truth = (torch.rand(3, 1, 8, 8, generator=generator) for _ in range(2))
    measure = psnr_of(estimate)
    assert measure(truth) == pytest.approx(psnr(estimate, truth).numpy(), rel=1e-5)
    assert measure(estimate).tolist() == [100.0] * 3


def test_samples_are_measured_one_by_one() -> None:
    samples = torch.rand(5, 3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    values = area(0.5).of_samples(samples)
    assert values.shape == (5, 3)
    assert values == pytest.approx((samples > 0.5).double().mean(dim=(2, 3, 4)).numpy())
