from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from certes.errors import CalibrationError, InputError
from certes.intervals import Bounds, Calibration, calibrate, evaluate
from certes.intervals.critical import CriticalValues
from certes.intervals.families import FAMILIES
from certes.intervals.parts import some_pictures, some_pixels, split_units
from certes.intervals.rules import certify
from certes.intervals.shapes import Shape, Sides, Strata, shape_from_config
from certes.intervals.sides import RATIOS, calibrate_sides, narrowest_sides
from certes.intervals.strata import best_strata, calibrate_strata

SCALE = FAMILIES["scale"]


def problem(
    seed: int, images: int = 80, below: float = 1.0, narrow: float = 1.0, size: int = 8
) -> tuple[Bounds, torch.Tensor]:
    """Errors that are `below` times larger below the estimate, `narrow` times in narrow bounds."""
    generator = torch.Generator().manual_seed(seed)
    shape = (images, 1, size, size)
    estimate = 0.4 + 0.2 * torch.rand(shape, generator=generator)
    wide = (torch.arange(size) % 2 == 1).expand(shape)
    half = torch.where(wide, 0.02, 0.008) * (1 + 0.02 * torch.rand(shape, generator=generator))
    difficulty = torch.exp(0.3 * torch.randn(images, 1, 1, 1, generator=generator))
    error = torch.randn(shape, generator=generator) * difficulty * half
    error = torch.where(error < 0, below, 1.0) * torch.where(wide, 1.0, narrow) * error
    truth = (estimate + error).clamp(0, 1)
    return Bounds(estimate - half, estimate, estimate + half), truth


@pytest.mark.parametrize("shape", [Sides(0.5, 2.0), Strata((0.02, 0.3), (1.0, 0.25, 3.0))])
def test_shapes_survive_json(shape: Shape) -> None:
    assert shape_from_config(shape.to_config()) == shape


@pytest.mark.parametrize(
    "config",
    [
        None,
        {},
        {"name": "corners"},
        {"name": "sides", "below": 1.0},
        {"name": "sides", "below": -1.0, "above": 1.0},
        {"name": "sides", "below": "a", "above": 1.0},
        {"name": "sides", "below": 1.0, "above": 1.0, "left": 1.0},
        {"name": "strata", "edges": [0.2, 0.1], "by_stratum": [1, 1, 1]},
        {"name": "strata", "edges": [0.1], "by_stratum": [1.0]},
        {"name": "strata", "edges": [0.1], "by_stratum": [1.0, 0.0]},
        {"name": "strata", "edges": [float("nan")], "by_stratum": [1.0, 1.0]},
        {"name": "strata", "edges": 3, "by_stratum": [1.0]},
    ],
)
def test_damaged_shapes_are_refused(config: object) -> None:
    with pytest.raises(InputError):
        shape_from_config(config)


def test_strata_weigh_by_raw_width_and_edges_belong_above() -> None:
    widths = torch.tensor([0.1, 0.25, 0.3, 0.5]).reshape(1, 1, 2, 2)
    estimate = torch.full_like(widths, 0.5)
    bounds = Bounds(estimate - widths / 2, estimate, estimate + widths / 2)
    exact = float(bounds.upper[0, 0, 0, 1].double() - bounds.lower[0, 0, 0, 1].double())
    below, above = Strata((exact, 0.4), (1.0, 2.0, 3.0)).weights(bounds, 0)
    np.testing.assert_array_equal(below, [[[1.0, 2.0], [2.0, 3.0]]])
    np.testing.assert_array_equal(above, below)


def test_a_split_takes_whole_units_whatever_their_order() -> None:
    truth = torch.rand(40, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    unit = np.arange(40) // 2
    first, rest = split_units(truth, unit, 0.25, seed=3)
    assert len(first) == 10
    assert sorted([*first, *rest]) == list(range(40))
    assert not set(unit[first]) & set(unit[rest])
    order = np.random.default_rng(0).permutation(40)
    known = {u: k for k, u in enumerate(dict.fromkeys(unit[order].tolist()))}
    renumbered = np.array([known[u] for u in unit[order].tolist()])
    turned, _ = split_units(truth[order], renumbered, 0.25, seed=3)
    assert set(order[turned]) == set(first)
    assert set(split_units(truth, unit, 0.25, seed=4)[0]) != set(first)


def test_some_pixels_are_counted_ones_and_images_weigh_alike() -> None:
    bounds, truth = problem(0, images=3, size=40)
    rungs = torch.stack([torch.stack([bounds.lower, bounds.upper])])
    counted = torch.zeros(truth.shape, dtype=torch.bool)
    counted[0, :, :5], counted[1:, :, 20:] = True, True
    row, values, weight = some_pixels(replace(bounds, rungs=rungs), truth, counted)
    assert values.shape == row.lower.shape == (1, 1, 1, 200 + 800 + 800)
    assert set(values.ravel().tolist()) <= set(truth[counted].tolist())
    assert [weight[:200].sum(), weight[200:1000].sum()] == pytest.approx([1 / 3, 1 / 3])
    assert row.rungs is not None
    assert torch.equal(row.rungs[0, 1], row.upper)
    full, _, _ = some_pixels(bounds, truth, None)
    assert full.lower.numel() == 3 * 1024


def test_some_pictures() -> None:
    bounds, _ = problem(0, images=5)
    rungs = torch.stack([torch.stack([bounds.lower, bounds.upper])])
    part = some_pictures(replace(bounds, rungs=rungs), np.array([4, 1]))
    assert torch.equal(part.lower, bounds.lower[[4, 1]])
    assert part.rungs is not None
    assert torch.equal(part.rungs[0, 1], bounds.upper[[4, 1]])


# Sides


def test_sides_with_one_ratio_are_an_ordinary_calibration() -> None:
    bounds, truth = problem(0)
    card = calibrate_sides(bounds, truth, ratios=[1.0])
    plain = calibrate(bounds, truth)
    assert (card.size, card.delta, card.shape) == (plain.size, 0.1, Sides(1.0, 1.0))
    assert card.guarantee == plain.guarantee


def test_sides_pay_for_every_ratio_they_try() -> None:
    bounds, truth = problem(0)
    card = calibrate_sides(bounds, truth, rule="hb")
    assert isinstance(card.shape, Sides)
    alone = calibrate(bounds, truth, rule="hb", delta=0.1 / len(RATIOS), shape=card.shape)
    assert (card.size, card.delta) == (alone.size, 0.1)
    assert card.size > calibrate(bounds, truth, rule="hb", shape=card.shape).size


def test_sides_are_the_narrowest_of_those_certified() -> None:
    bounds, truth = problem(1, below=3.0)
    cards = [
        calibrate(
            bounds, truth, delta=0.1 / len(RATIOS), shape=Sides(math.sqrt(r), math.sqrt(1 / r))
        )
        for r in RATIOS
    ]
    widths = [float(card(bounds).width.mean()) for card in cards]
    chosen = calibrate_sides(bounds, truth)
    assert chosen.shape == cards[int(np.argmin(widths))].shape
    assert chosen.size == cards[int(np.argmin(widths))].size
    assert chosen.shape != Sides(1.0, 1.0)
    other = Bounds(1 - bounds.upper, 1 - bounds.estimate, 1 - bounds.lower)
    mirrored = calibrate_sides(other, 1 - truth).shape
    assert isinstance(mirrored, Sides)
    assert isinstance(chosen.shape, Sides)
    assert mirrored == Sides(chosen.shape.above, chosen.shape.below)


def test_every_ratio_is_certified_at_its_share_of_delta() -> None:
    bounds, truth = problem(14)
    tried: list[float] = []

    def units(shape: Sides) -> CriticalValues:
        critical = SCALE.critical(bounds, truth, shape).reshape(len(truth), -1)
        return CriticalValues.of_images(critical).shuffled(0)

    def width(shape: Sides, size: float) -> float:
        tried.append(size)
        assert size == certify(units(shape), "hb", 0.1, 0.1 / 2)
        return -shape.below

    found = narrowest_sides(units, width, [0.25, 4.0], alpha=0.1, delta=0.1, rule="hb")
    assert found == (Sides(2.0, 0.5), tried[1])


def test_sides_are_narrower_on_new_images_where_errors_lean() -> None:
    bounds, truth = problem(2, images=200, below=3.0)
    new, new_truth = problem(3, images=250, below=3.0)
    sides, plain = (
        evaluate(card(new), new_truth)
        for card in (calibrate_sides(bounds, truth), calibrate(bounds, truth))
    )
    assert sides["risk"] <= 0.1
    assert sides["width"] < 0.9 * plain["width"]


def test_sides_refuse_what_they_cannot_share() -> None:
    bounds, truth = problem(0)
    with pytest.raises(InputError, match="rule: 'crc' has no delta to share"):
        calibrate_sides(bounds, truth, rule="crc")
    with pytest.raises(InputError, match="ratios: give at least one"):
        calibrate_sides(bounds, truth, ratios=[])
    with pytest.raises(InputError, match="ratios: -1"):
        calibrate_sides(bounds, truth, ratios=[-1.0])
    few, few_truth = problem(0, images=30)
    assert calibrate(few, few_truth).n == 30
    with pytest.raises(CalibrationError, match=r"30 independent .* at least 36 are needed"):
        calibrate_sides(few, few_truth)


# Strata


def two_strata(pixels: int, narrow: float) -> tuple[Bounds, torch.Tensor]:
    bounds, truth = problem(5, images=1, narrow=narrow, size=int(math.sqrt(pixels)))
    return bounds, truth


def test_best_strata_are_those_of_brute_force() -> None:
    bounds, truth = two_strata(400, narrow=3.0)
    weight = np.full(400, 1 / 400)
    shape = best_strata(bounds, truth, weight, alpha=0.1, family=SCALE, strata=2)
    critical = SCALE.critical(bounds, truth).ravel()
    half = (bounds.width.ravel() / 2).numpy()
    wide = shape.strata(2.0 * half) == 1
    assert wide.mean() == 0.5
    pairs = [
        (half[~wide].sum() * a + half[wide].sum() * b, a, b)
        for a in np.unique(critical[~wide])
        for b in np.unique(critical[wide])
        if ((critical[~wide] > a).sum() + (critical[wide] > b).sum()) <= 40
    ]
    best = min(pairs)[0]
    a, b = shape.by_stratum
    # The smallest common factor with which these weights keep the risk, as a calibration finds it.
    factor = np.sort(np.where(wide, critical / b, critical / a))[-41]
    found = factor * (half[~wide].sum() * a + half[wide].sum() * b)
    assert best <= found * (1 + 1e-6)
    assert found <= 1.03 * best  # candidates are some 40 miss rates a stratum
    alike = np.sort(critical)[-41] * half.sum()
    assert alike > 1.07 * best  # so that the margin above can tell


def test_no_width_can_be_traded_between_the_best_strata() -> None:
    # Errors are s_k |e| half-widths with e normal: at the optimum half-width k is proportional to
    # phi(lambda_k / s_k) / s_k, the misses that a little of lambda_k saves there.
    bounds, truth = two_strata(200**2, narrow=3.0)
    shape = best_strata(
        bounds, truth, np.full(200**2, 200.0**-2), alpha=0.1, family=SCALE, strata=2
    )
    s, half = np.array([3.0, 1.0]), np.array([0.008, 0.02])
    difficulty = float((SCALE.critical(bounds, truth).ravel()[shape_of_wide(bounds)] ** 2).mean())
    s = s * math.sqrt(difficulty)

    def optimal(price: float) -> np.ndarray:
        return s * np.sqrt(np.maximum(-2 * np.log(price * half * s), 0))

    prices = np.geomspace(1e-3, 1e4, 4000)
    risks = [np.mean([math.erfc(z / math.sqrt(2)) for z in optimal(p) / s]) for p in prices]
    sizes = optimal(float(prices[int(np.argmin(np.abs(np.array(risks) - 0.1)))]))
    ratio = shape.by_stratum[0] / shape.by_stratum[1]
    assert ratio == pytest.approx(sizes[0] / sizes[1], rel=0.06)
    assert ratio > 1.5


def shape_of_wide(bounds: Bounds) -> np.ndarray:
    return (bounds.width.ravel() > 0.03).numpy()


def test_strata_of_one_width_or_without_error_are_alike() -> None:
    estimate = torch.full((1, 1, 4, 4), 0.5)
    bounds = Bounds(estimate - 0.1, estimate, estimate + 0.1)
    weight = np.full(16, 1 / 16)
    for truth in (estimate, estimate + 0.05):
        shape = best_strata(bounds, truth, weight, alpha=0.1, family=SCALE, strata=4)
        assert shape == Strata((), (1.0,))


@pytest.mark.parametrize("rule", ["wsr", "crc"])
def test_strata_certify_on_images_that_found_no_weights(rule: str) -> None:
    bounds, truth = problem(6, narrow=3.0)
    card = calibrate_strata(bounds, truth, rule=rule)
    _, rest = split_units(truth, np.arange(80), 0.25, seed=0)
    again = calibrate(some_pictures(bounds, rest), truth[rest], rule=rule, shape=card.shape)
    assert (card.size, card.n, card.images) == (again.size, 60, 60)
    order = np.random.default_rng(0).permutation(80)
    turned = calibrate_strata(some_pictures(bounds, order), truth[order], rule=rule)
    assert turned.size == pytest.approx(card.size, rel=1e-9)


def test_strata_are_narrower_on_new_images_where_widths_are_wrong() -> None:
    bounds, truth = problem(7, images=200, narrow=3.0)
    new, new_truth = problem(8, images=250, narrow=3.0)
    strata, plain = (
        evaluate(card(new), new_truth)
        for card in (calibrate_strata(bounds, truth), calibrate(bounds, truth))
    )
    assert strata["risk"] <= 0.1
    assert strata["width"] < 0.95 * plain["width"]


@pytest.mark.parametrize("family", ["std", "ratio", "level"])
def test_strata_work_under_other_families(family: str) -> None:
    bounds, truth = problem(9, narrow=3.0)
    rungs = torch.stack([torch.stack([bounds.lower, bounds.upper])])
    card = calibrate_strata(replace(bounds, rungs=rungs), truth, family=family)
    assert isinstance(card.shape, Strata)
    assert card.shape.by_stratum[0] > card.shape.by_stratum[-1]
    misses = ~card(replace(bounds, rungs=rungs)).contains(truth)
    assert 0.02 < misses.float().mean() < 0.1


def test_strata_with_groups_and_masks() -> None:
    bounds, truth = problem(10, images=160)
    counted = torch.zeros(truth.shape, dtype=torch.bool)
    counted[..., :4] = True
    spoilt = torch.where(counted, truth, 1.0)
    labels = [i // 2 for i in range(160)]
    card = calibrate_strata(bounds, spoilt, counted=counted, groups=labels)
    assert (card.n, card.images, card.grouped, card.counted) == (60, 120, True, True)
    missed = ~card(bounds).contains(spoilt)
    assert missed[counted].float().mean() < 0.1 < missed[~counted].float().mean()


def test_strata_refuse_when_too_few_images_are_left() -> None:
    bounds, truth = problem(0, images=32)
    with pytest.raises(CalibrationError, match=r"24 independent .* needs at least 25"):
        calibrate_strata(bounds, truth)
    with pytest.raises(InputError, match=r"strata: 0 strata on a share 0\.25"):
        calibrate_strata(bounds, truth, strata=0)


# Both


def test_calibrate_finds_shapes_by_name() -> None:
    bounds, truth = problem(11)

    def same(a: Calibration, b: Calibration) -> bool:
        return (a.size, a.shape, a.n, a.delta) == (b.size, b.shape, b.n, b.delta)

    sides, strata = (calibrate(bounds, truth, shape=name, seed=2) for name in ("sides", "strata"))
    assert same(sides, calibrate_sides(bounds, truth, seed=2))
    assert same(strata, calibrate_strata(bounds, truth, seed=2))
    assert not same(sides, strata)
    with pytest.raises(InputError, match="shape: 'corners' is unknown, known are sides, strata"):
        calibrate(bounds, truth, shape="corners")


@pytest.mark.parametrize("name", ["sides", "strata"])
def test_cards_with_shapes_survive_the_disk(name: str, tmp_path) -> None:
    bounds, truth = problem(12)
    card = calibrate(bounds, truth, shape=name)
    card.save(tmp_path / "card.json")
    again = Calibration.load(tmp_path / "card.json")
    assert again == card
    assert torch.equal(again(bounds).upper, card(bounds).upper)


@pytest.mark.parametrize("name", ["sides", "strata"])
def test_additive_takes_no_shape(name: str) -> None:
    bounds, truth = problem(13)
    with pytest.raises(InputError, match="'additive' takes none"):
        calibrate(bounds, truth, shape=name, family="additive")
