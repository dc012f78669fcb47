from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from certes.errors import CalibrationError, InputError
from certes.intervals import Bounds, Provenance, calibrate
from certes.intervals.parts import some_pictures
from certes.intervals.regions import RegionCalibration, calibrate_regions

MADE = Provenance("abc123", "deblur sigma 2")


def problem(seed: int, images: int = 90) -> tuple[Bounds, torch.Tensor, torch.Tensor]:
    """Region 1, the right half, has four times the error that the bounds say; 0 is as they say."""
    generator = torch.Generator().manual_seed(seed)
    shape = (images, 2, 6, 8)
    estimate = 0.3 + 0.4 * torch.rand(shape, generator=generator)
    half = 0.01 + 0.01 * torch.rand(shape, generator=generator)
    regions = torch.zeros(images, 1, 6, 8, dtype=torch.int64)
    regions[..., 4:] = 1
    noise = torch.where(regions == 1, 4.0, 1.0) * torch.randn(shape, generator=generator)
    truth = (estimate + half * noise).clamp(0, 1)
    return Bounds(estimate - half, estimate, estimate + half, MADE), truth, regions


def test_each_region_is_a_calibration_of_its_own_pixels_at_its_share_of_delta() -> None:
    bounds, truth, regions = problem(0)
    card = calibrate_regions(bounds, truth, regions, alpha={1: 0.05, 0: 0.2}, delta=0.06)
    assert card.delta == 0.06
    for label, alpha in ((0, 0.2), (1, 0.05)):
        counted = regions == label
        alone = calibrate(bounds, truth, alpha=alpha, delta=0.03, counted=counted)
        assert (card.cards[label].size, card.cards[label].n) == (alone.size, 90)
        assert (card.cards[label].alpha, card.cards[label].delta) == (alpha, 0.03)


def test_intervals_are_those_of_the_region_in_which_a_pixel_lies() -> None:
    bounds, truth, regions = problem(1)
    card = calibrate_regions(bounds, truth, regions, alpha={0: 0.1, 1: 0.1})
    interval = card(bounds, regions)
    for label in (0, 1):
        inside, own = (regions == label).expand(truth.shape), card.cards[label](bounds)
        assert torch.equal(interval.lower[inside], own.lower[inside])
        assert torch.equal(interval.upper[inside], own.upper[inside])
    assert (interval.guarantee, interval.provenance) == (card.guarantee, MADE)
    with pytest.raises(CalibrationError, match="calibrated already"):
        card(interval, regions)
    other = replace(bounds, provenance=Provenance("abc123", "denoise"))
    with pytest.raises(CalibrationError, match="'deblur sigma 2', not 'denoise'"):
        card(other, regions)


def test_every_region_keeps_its_risk_on_new_images_where_one_size_for_all_does_not() -> None:
    bounds, truth, regions = problem(2)
    new, new_truth, new_regions = problem(3, images=300)
    interval = calibrate_regions(bounds, truth, regions, alpha={0: 0.1, 1: 0.1})(new, new_regions)
    pooled = calibrate(bounds, truth)(new)

    def risk(kept: Bounds, label: int) -> float:
        inside = (new_regions == label).expand(new_truth.shape)
        return float((~kept.contains(new_truth))[inside].float().mean())

    assert 0.05 < risk(interval, 0) <= 0.1
    assert 0.05 < risk(interval, 1) <= 0.1
    assert risk(pooled, 1) > 0.13  # negative control


def test_images_without_a_region_do_not_count_for_it() -> None:
    bounds, truth, regions = problem(4)
    regions[:50] = 0
    labels = [f"specimen {i // 2}" for i in range(90)]
    card = calibrate_regions(bounds, truth, regions, alpha={0: 0.1, 1: 0.3})
    assert (card.cards[0].n, card.cards[1].n) == (90, 40)
    shown = torch.arange(50, 90).numpy()
    alone = calibrate(
        some_pictures(bounds, shown), truth[50:], alpha=0.3, delta=0.05, counted=regions[50:] == 1
    )
    assert card.cards[1].size == alone.size
    grouped = calibrate_regions(bounds, truth, regions, alpha={0: 0.1, 1: 0.3}, groups=labels)
    assert (grouped.cards[0].n, grouped.cards[1].n) == (45, 20)
    with pytest.raises(CalibrationError, match=r"region 1: .* 40 independent .* at least"):
        calibrate_regions(bounds, truth, regions, alpha={0: 0.1, 1: 0.05})


def test_what_is_said_of_regions() -> None:
    bounds, truth, regions = problem(5)
    said = calibrate_regions(bounds, truth, regions, alpha={0: 0.1, 1: 0.2}, delta=0.1).guarantee
    for part in ("at once with probability at least 0.9", "Region 0", "0.95", "10 %", "20 %"):
        assert part in said
    average = calibrate_regions(bounds, truth, regions, alpha={0: 0.1, 1: 0.2}, rule="crc")
    assert average.delta is None
    assert "each region by itself" in average.guarantee
    assert "at once" not in average.guarantee


@pytest.mark.parametrize("rule", ["wsr", "crc", "image"])
def test_a_card_of_regions_survives_the_disk(rule: str, tmp_path: Path) -> None:
    bounds, truth, regions = problem(6)
    card = calibrate_regions(bounds, truth, regions, alpha={0: 0.1, 1: 0.2}, rule=rule)
    card.save(tmp_path / "card.json")
    again = RegionCalibration.load(tmp_path / "card.json")
    assert again == card
    assert torch.equal(again(bounds, regions).upper, card(bounds, regions).upper)
    assert json.loads((tmp_path / "card.json").read_text())["guarantee"] == card.guarantee


@pytest.mark.parametrize(
    "change",
    [
        {"format": "certes calibration 1"},
        {"regions": {}},
        {"regions": {"nucleus": {}}},
        {"regions": {"0": {}}},
        {"regions": 3},
        {"delta": "a"},
        {"delta": 0.001},
        {"delta": None},
    ],
)
def test_a_damaged_card_is_one_clear_line(change: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    bounds, truth, regions = problem(7)
    calibrate_regions(bounds, truth, regions, alpha={0: 0.1, 1: 0.2}).save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CalibrationError, match="not a readable card of regions") as caught:
        RegionCalibration.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    for text in ("", "[]", "3"):
        path.write_text(text)
        with pytest.raises(CalibrationError, match="not a readable card of regions"):
            RegionCalibration.load(path)


def test_refuses_maps_and_levels_that_do_not_fit() -> None:
    bounds, truth, regions = problem(8)
    with pytest.raises(InputError, match="regions: whole numbers of shape"):
        calibrate_regions(bounds, truth, regions.float(), alpha={0: 0.1})
    with pytest.raises(InputError, match="regions: whole numbers of shape"):
        calibrate_regions(bounds, truth, regions.expand(truth.shape), alpha={0: 0.1})
    with pytest.raises(InputError, match="alpha: region 2 is in none of the label maps"):
        calibrate_regions(bounds, truth, regions, alpha={2: 0.1})
    with pytest.raises(InputError, match="alpha: give the risk of at least one region"):
        calibrate_regions(bounds, truth, regions, alpha={})
    with pytest.raises(InputError, match="groups: one label per image"):
        calibrate_regions(bounds, truth, regions, alpha={0: 0.1}, groups=["a"])
    card = calibrate_regions(bounds, truth, regions, alpha={0: 0.1})
    with pytest.raises(InputError, match=r"regions: labels \[1\] were not calibrated, only \[0\]"):
        card(bounds, regions)
    with pytest.raises(InputError, match="regions: whole numbers of shape"):
        card(bounds, regions[:1])
    assert math.isfinite(card(bounds, torch.zeros_like(regions)).width.max())
