from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import certes
from certes.errors import CalibrationError, CertesWarning, InputError
from certes.intervals import Bounds, Calibration, Provenance, calibrate
from certes.intervals.families import FAMILIES
from certes.intervals.rules import RULES

MODELS = Path(certes.__file__).parent / "models"
MADE = Provenance("abc123", "deblur sigma 2", noise=0.02, samples=16)


def problem(images: int = 60, seed: int = 0) -> tuple[Bounds, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    estimate = 0.2 + 0.6 * torch.rand(images, 2, 4, 4, generator=generator)
    half = 0.02 + 0.03 * torch.rand(estimate.shape, generator=generator)
    noise = torch.randn(estimate.shape, generator=generator)
    truth = (estimate + half * noise).clamp(0, 1)
    rungs = torch.stack([torch.stack([estimate - s * half, estimate + s * half]) for s in (0.5, 2)])
    return Bounds(estimate - half, estimate, estimate + half, MADE, rungs=rungs), truth


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("family", FAMILIES)
def test_certified_size_is_the_smallest_that_its_rule_accepts(rule: str, family: str) -> None:
    bounds, truth = problem(150)
    calibration = calibrate(bounds, truth, rule=rule, family=family)
    missed = ~calibration(bounds).contains(truth)
    assert 0 < missed.float().mean() < 0.1
    assert calibration.n == calibration.images == 150
    critical = FAMILIES[family].critical(bounds, truth)
    assert missed.float().mean() == pytest.approx((critical > calibration.size).mean(), abs=1e-3)


def test_intervals_carry_the_guarantee_in_words() -> None:
    bounds, truth = problem()
    interval = calibrate(bounds, truth, alpha=0.2, delta=0.05)(bounds)
    assert interval.guarantee is not None
    for part in ("probability at least 0.95", "60 images", "20 % of the pixels", "a new image"):
        assert part in interval.guarantee


def test_groups_count_as_units() -> None:
    bounds, truth = problem()
    labels = [f"patient {i // 2}" for i in range(60)]
    calibration = calibrate(bounds, truth, groups=labels)
    assert (calibration.n, calibration.images, calibration.grouped) == (30, 60, True)
    assert "30 groups of images" in calibration.guarantee
    assert calibration.size > calibrate(bounds, truth).size
    with pytest.raises(CalibrationError, match="20 independent images or groups, at least 25"):
        calibrate(bounds, truth, groups=[i // 3 for i in range(60)])
    with pytest.raises(InputError, match="groups: one label per image is wanted, 3 for 60"):
        calibrate(bounds, truth, groups=["a", "b", "c"])


def test_the_order_of_images_is_recorded_and_reproducible() -> None:
    bounds, truth = problem()
    first, again = (calibrate(bounds, truth, seed=3) for _ in range(2))
    assert (first.size, first.seed) == (again.size, 3)
    order = torch.arange(59, -1, -1)
    turned = Bounds(bounds.lower[order], bounds.estimate[order], bounds.upper[order], MADE)
    backwards = calibrate(turned, truth[order], seed=3)
    assert backwards.size == first.size
    assert len({calibrate(bounds, truth, seed=seed).size for seed in range(6)}) > 1


def test_a_card_survives_the_disk_without_a_bit_lost(tmp_path: Path) -> None:
    bounds, truth = problem()
    calibration = calibrate(bounds, truth)
    calibration.save(tmp_path / "card.json")
    again = Calibration.load(tmp_path / "card.json")
    assert again == calibration
    assert torch.equal(again(bounds).lower, calibration(bounds).lower)
    content = json.loads((tmp_path / "card.json").read_text())
    assert content["lambda"] == calibration.size
    assert content["guarantee"] == calibration.guarantee
    # Never pixels: a few fingerprints and features of each image, and some fifteen values.
    assert len(json.dumps(content)) < 1500 + 400 * calibration.images
    assert [p.name for p in tmp_path.iterdir()] == ["card.json"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "other"}, "model: 'abc123', not 'other'"),
        ({"operator": "inpaint"}, "operator: 'deblur sigma 2', not 'inpaint'"),
        ({"noise": 0.1}, "noise: 0.02, not 0.1"),
        ({"samples": 8}, "samples: 16, not 8"),
    ],
)
def test_a_card_refuses_bounds_made_otherwise(change: dict[str, object], said: str) -> None:
    bounds, truth = problem()
    calibration = calibrate(bounds, truth)
    with pytest.raises(CalibrationError, match=said):
        calibration(replace(bounds, provenance=replace(MADE, **change)))


def test_a_card_refuses_bounds_of_unknown_make_and_the_reverse() -> None:
    bounds, truth = problem()
    silent = replace(bounds, provenance=None)
    with pytest.raises(CalibrationError, match="the bounds do not say what made them"):
        calibrate(bounds, truth)(silent)
    with pytest.raises(CalibrationError, match="the card does not say what made them"):
        calibrate(silent, truth)(bounds)
    assert calibrate(silent, truth)(silent).guarantee


def test_nothing_is_calibrated_twice() -> None:
    bounds, truth = problem()
    calibration = calibrate(bounds, truth)
    interval = calibration(bounds)
    with pytest.raises(CalibrationError, match="calibrated already"):
        calibration(interval)
    with pytest.raises(CalibrationError, match="calibrated already"):
        calibrate(interval, truth)


def broken(**changes: object) -> str:
    bounds, truth = problem()
    return json.dumps({**calibrate(bounds, truth).card(), **changes})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "\x00",
        broken()[:200],
        broken(format="something else"),
        broken(**{"lambda": None}),
        broken(**{"lambda": float("nan")}),
        broken(alpha="0.1"),
        broken(alpha=1.5),
        broken(n=True),
        broken(n=61),
        broken(rule="sum"),
        broken(family="sum"),
        broken(delta=None),
        broken(tolerance=0.1),
        broken(rule="image"),
        broken(rule="crc"),
        broken(counted="yes"),
        broken(exact=1),
        broken(shape={"name": "none such"}),
        broken(shape=3),
        broken(sketches=5),
        broken(features=[["a"]]),
        broken(provenance={"pixels": []}),
        broken(provenance=[1]),
    ],
)
def test_a_damaged_card_is_one_clear_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "card.json"
    path.write_text(text)
    with pytest.raises(CalibrationError, match="not a readable calibration card") as caught:
        Calibration.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_older_cards_still_load(tmp_path: Path) -> None:
    newer = ("tolerance", "shape", "counted", "exact", "sketches", "features")
    bounds, truth = problem()
    card = calibrate(bounds, truth)
    content = {name: value for name, value in card.card().items() if name not in newer}
    (tmp_path / "old.json").write_text(json.dumps(content))
    old = Calibration.load(tmp_path / "old.json")
    assert old == replace(card, sketches=(), features=())
    assert torch.equal(old(bounds).upper, card(bounds).upper)


@pytest.mark.parametrize("path", sorted(MODELS.glob("*/cards/*.json")), ids=lambda p: p.stem)
def test_cards_that_ship_still_load(path: Path) -> None:
    assert Calibration.load(path).guarantee == json.loads(path.read_text())["guarantee"]


@pytest.mark.parametrize(("rule", "tolerance"), [("image", 0.2), ("crc", None)])
def test_cards_keep_only_what_their_rule_has(tmp_path: Path, rule: str, tolerance) -> None:
    bounds, truth = problem()
    card = calibrate(bounds, truth, rule=rule, tolerance=0.2)
    assert (card.delta, card.tolerance) == (None, tolerance)
    card.save(tmp_path / "card.json")
    assert Calibration.load(tmp_path / "card.json") == card
    shares = (~card(bounds).contains(truth)).float().mean(dim=(1, 2, 3))
    if rule == "image":
        assert 0 < (shares > 0.2).sum() <= 0.1 * 61 - 1
        assert "80 % of its pixels" in card.guarantee
    else:
        assert "on average" in card.guarantee


def test_a_card_says_that_only_counted_pixels_are_meant() -> None:
    bounds, truth = problem()
    counted = torch.ones(truth.shape, dtype=torch.bool)
    masked = calibrate(bounds, truth, counted=counted)
    assert masked.counted
    assert masked.size == calibrate(bounds, truth).size
    assert "counted" in masked.guarantee
    assert "counted" not in calibrate(bounds, truth).guarantee


def test_a_card_warns_of_bounds_unlike_those_of_its_calibration() -> None:
    generator = torch.Generator().manual_seed(0)
    estimate = 0.3 + 0.4 * torch.rand(60, 1, 16, 16, generator=generator)
    truth = (estimate + 0.05 * torch.randn(estimate.shape, generator=generator)).clamp(0, 1)
    card = calibrate(Bounds(estimate - 0.05, estimate, estimate + 0.05), truth)
    alike = 0.3 + 0.4 * torch.rand(2, 1, 16, 16, generator=generator)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        card(Bounds(alike - 0.05, alike, alike + 0.05))
    with pytest.warns(CertesWarning, match="calibrated on"):
        card(Bounds(alike - 0.25, alike, alike + 0.25))


def test_a_missing_or_binary_card_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x80")
    for name in ("missing", "binary", "."):
        with pytest.raises(CalibrationError, match="not a readable calibration card"):
            Calibration.load(tmp_path / name)
