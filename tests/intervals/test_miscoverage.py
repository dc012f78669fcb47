"""The map of misses, and what pure chance would make of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from certes.errors import InputError
from certes.intervals import Bounds
from certes.intervals.counted import Counted
from certes.intervals.miscoverage import miscoverage, miscoverage_map


def missing_at(misses: torch.Tensor) -> tuple[Bounds, torch.Tensor]:
    """Intervals of 0.5 +- 0.1 that miss where `misses` says."""
    centre = torch.full(misses.shape, 0.5)
    return Bounds(centre - 0.1, centre, centre + 0.1), torch.where(misses, 0.9, 0.5)


def scattered(images: int, seed: int, side: int = 16) -> torch.Tensor:
    """Misses anywhere, at a rate that differs from image to image."""
    generator = torch.Generator().manual_seed(seed)
    rates = torch.rand(images, 1, 1, 1, generator=generator) * 0.6
    return torch.rand(images, 1, side, side, generator=generator) < rates


def test_map_is_the_share_of_images() -> None:
    misses = torch.zeros(4, 2, 3, 3, dtype=torch.bool)
    misses[:3, :, 0, 0] = True
    misses[0, 0, 2, 1] = True
    shares = miscoverage_map(*missing_at(misses))
    expected = np.zeros((3, 3))
    expected[0, 0], expected[2, 1] = 3 / 4, 1 / 8
    np.testing.assert_array_equal(shares, expected)
    scores = miscoverage(Counted.of(*missing_at(misses)))
    assert scores is not None
    assert scores["mean"] == pytest.approx(expected.mean())
    assert (scores["min"], scores["max"]) == (0, 3 / 4)
    assert scores["sd"] == pytest.approx(expected.std())


def test_chance_is_what_moving_the_misses_about_gives() -> None:
    misses = scattered(12, seed=0)
    rng = np.random.default_rng(0)
    flat = misses.reshape(12, -1).numpy()
    moved = [
        np.stack([rng.permutation(row) for row in flat]).mean(axis=0).var() for _ in range(400)
    ]
    scores = miscoverage(Counted.of(*missing_at(misses)))
    assert scores is not None
    assert scores["chance_sd"] ** 2 == pytest.approx(np.mean(moved), rel=0.02)
    # Blobs instead of single pixels, moved about whole (on a torus), come to the same.
    blobs = torch.zeros(12, 1, 16, 16, dtype=torch.bool)
    blobs[:, :, :6, :5] = True
    rolled = []
    for _ in range(400):
        shifts = rng.integers(0, 16, (12, 2)).tolist()
        rolled.append(
            np.mean([blobs[i, 0].roll(shifts[i], (0, 1)).numpy() for i in range(12)], axis=0).var()
        )
    scores = miscoverage(Counted.of(*missing_at(blobs)))
    assert scores is not None
    assert scores["chance_sd"] ** 2 == pytest.approx(np.mean(rolled), rel=0.1)


def test_sd_tells_a_bad_spot_from_chance() -> None:
    even = miscoverage(Counted.of(*missing_at(scattered(100, seed=1))))
    spotted = scattered(100, seed=1)
    spotted[:, :, 4:8, 4:8] = True
    bad = miscoverage(Counted.of(*missing_at(spotted)))
    assert even is not None
    assert bad is not None
    assert even["sd"] == pytest.approx(even["chance_sd"], rel=0.15)
    assert bad["sd"] > 2 * bad["chance_sd"]


def test_only_counted_pixels() -> None:
    misses = scattered(40, seed=2)
    counted = torch.rand(misses.shape, generator=torch.Generator().manual_seed(3)) < 0.5
    counted[:, :, 0, 0] = False
    bounds, truth = missing_at(misses | ~counted)  # what does not count is always missed
    shares = miscoverage_map(bounds, truth, counted)
    assert np.isnan(shares[0, 0])
    brute = (misses & counted).sum(0) / counted.sum(0)
    np.testing.assert_allclose(shares.ravel()[1:], brute.ravel()[1:].numpy())
    scores = miscoverage(Counted.of(bounds, truth, counted))
    assert scores is not None
    assert scores["sd"] == pytest.approx(scores["chance_sd"], rel=0.15)
    whole = miscoverage(Counted.of(bounds, truth))
    assert whole is not None
    assert whole["mean"] > 2 * scores["mean"]


def test_images_of_two_sizes_have_no_map() -> None:
    small, large = missing_at(scattered(2, 0, 8)), missing_at(scattered(2, 0, 12))
    both = [small[0], large[0]], [small[1], large[1]]
    assert miscoverage(Counted.of(*both)) is None
    with pytest.raises(InputError, match="images of one size"):
        miscoverage_map(*both)
