from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from certes.data.fingerprints import sketch
from certes.errors import CalibrationError, InputError
from certes.intervals import Bounds, Calibration, Provenance, Tally, calibrate, calibrate_stream
from certes.intervals.families import FAMILIES
from certes.intervals.rules import HoeffdingBentkus
from certes.intervals.shapes import Shape, Sides, Strata
from certes.intervals.shift import features

MADE = Provenance("abc123", "deblur sigma 2", noise=0.02, samples=16)
families = pytest.mark.parametrize("family", FAMILIES)
LEVELS = {"alpha": 0.4, "delta": 0.3}  # three units are enough for both rules

Batch = tuple[Bounds, Tensor, Tensor]


def batch(seed: int, images: int, height: int = 3, width: int = 4) -> Batch:
    """Bounds with rungs, truths, and masks that leave at least one pixel."""
    generator = torch.Generator().manual_seed(seed)
    size = (images, 2, height, width)
    estimate = 0.2 + 0.6 * torch.rand(size, generator=generator)
    below, above = 0.02 + 0.05 * torch.rand(2, *size, generator=generator)
    scale = torch.exp(0.5 * torch.randn(images, 1, 1, 1, generator=generator))
    truth = estimate + 0.05 * scale * torch.randn(size, generator=generator)
    counted = torch.rand(size, generator=generator) < 0.5
    counted[:, 0, 0, 0] = True
    rungs = torch.stack(
        [torch.stack([estimate - s * below, estimate + s * above]) for s in (0.3, 1.0, 1.4)]
    )
    bounds = Bounds(estimate - below, estimate, estimate + above, MADE, rungs=rungs)
    return bounds, truth.clamp(0, 1), counted


def part(given: Batch, chosen: list[int]) -> Batch:
    bounds, truth, counted = given
    ends = (e[chosen] for e in (bounds.lower, bounds.estimate, bounds.upper))
    assert bounds.rungs is not None
    cut = Bounds(*ends, bounds.provenance, rungs=bounds.rungs[:, :, chosen])
    return cut, truth[chosen], counted[chosen]


def dateless(card: Calibration) -> Calibration:
    """All but the date, and but features, which are exact to rounding only."""
    assert len(card.features) == len(card.sketches) == card.images
    return replace(card, date="", features=())


def smallest_size(family: str, batches: list[Batch], labels: list[int]) -> float:
    """By brute force: the smallest of all critical values at which hb's limit is kept."""
    values = [
        critical[mask]
        for bounds, truth, counted in batches
        for critical, mask in zip(
            FAMILIES[family].critical(bounds, truth), counted.numpy(), strict=True
        )
    ]
    groups = sorted(set(labels))
    limit = HoeffdingBentkus().largest_mean(len(groups), LEVELS["alpha"], LEVELS["delta"])

    def mean_loss(size: float) -> float:
        shares = [float(np.mean(v > size)) for v in values]
        units = [[s for s, k in zip(shares, labels, strict=True) if k == g] for g in groups]
        return float(np.mean([np.mean(u) for u in units]))

    return next(float(v) for v in np.unique(np.concatenate(values)) if mean_loss(v) <= limit)


@families
@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 999),
    sizes=st.lists(st.tuples(*[st.integers(1, 4)] * 3), min_size=2, max_size=4),
    data=st.data(),
)
def test_exact_is_brute_force_and_histograms_are_just_above(family, seed, sizes, data) -> None:
    batches = [batch(seed + k, 2 + n, h, w) for k, (n, h, w) in enumerate(sizes)]
    counts = [len(b[1]) for b in batches]
    total = sum(counts)
    labels = data.draw(st.lists(st.integers(0, 20), min_size=total, max_size=total))
    labels[:3] = [100, 101, 102]
    groups = iter(labels)
    tallies = {memory: Tally(family, memory=memory) for memory in (2**20, 0)}
    for b, count in zip(batches, counts, strict=True):
        own = [next(groups) for _ in range(count)]
        for tally in tallies.values():
            tally.add(*b, own)
    expected = smallest_size(family, batches, labels)
    exact = tallies[2**20].calibrate(rule="hb", **LEVELS)
    assert exact.exact
    assert exact.size == expected
    assert (exact.n, exact.images) == (len(set(labels)), total)
    rough = tallies[0].calibrate(rule="hb", **LEVELS)
    assert not rough.exact
    assert exact.size <= rough.size <= exact.size + max(0.008 * abs(exact.size), 2.0**-20)


def gathered(batches: list[Batch], labels: list[list[str]], memory: int = 2**20) -> Tally:
    tally = Tally(memory=memory)
    for b, own in zip(batches, labels, strict=True):
        tally.add(*b, own)
    return tally


@pytest.mark.parametrize("memory", [2**20, 0])
@pytest.mark.parametrize("rule", ["wsr", "hb"])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 999), data=st.data())
def test_order_batches_and_workers_change_nothing(memory, rule, seed, data) -> None:
    whole = batch(seed, 12)
    labels = [f"specimen {k}" for k in (0, 0, 1, 2, 3, 4, 5, 5, 5, 6, 7, 8)]
    card = gathered([whole], [labels], memory).calibrate(rule=rule, seed=3, **LEVELS)
    order = data.draw(st.permutations(range(12)))
    cuts = sorted(data.draw(st.sets(st.integers(1, 11), min_size=1, max_size=5)))
    pieces = [order[i:j] for i, j in zip([0, *cuts], [*cuts, 12], strict=True)]
    workers = [
        gathered([part(whole, piece)], [[labels[i] for i in piece]], memory) for piece in pieces
    ]
    merged = Tally(memory=memory)
    for k in data.draw(st.permutations(range(len(workers)))):
        merged.merge(workers[k])
    assert dateless(merged.calibrate(rule=rule, seed=3, **LEVELS)) == dateless(card)


def test_the_betting_rule_would_see_another_order() -> None:
    """Else the test of invariance above could not fail."""
    tally = gathered([batch(1, 40)], [[str(i) for i in range(40)]])
    assert len({tally.calibrate(seed=seed, **LEVELS).size for seed in range(8)}) > 1


def test_calibrate_and_the_stream_are_a_tally() -> None:
    whole = batch(2, 40)
    card = calibrate(*whole[:2], counted=whole[2])
    pieces = [part(whole, list(range(i, i + 8))) for i in range(0, 40, 8)]
    assert dateless(calibrate_stream(pieces)) == dateless(card)
    plain = calibrate_stream((bounds, truth) for bounds, truth, _ in pieces)
    assert dateless(plain) == dateless(calibrate(*whole[:2]))
    assert plain.size != card.size
    assert "counted" in card.guarantee or "chosen" in card.guarantee
    assert card.guarantee != plain.guarantee
    rough = calibrate_stream(pieces, memory=1000)
    assert not rough.exact
    assert card.size <= rough.size <= 1.008 * card.size


def test_histograms_begin_where_memory_ends() -> None:
    whole = batch(3, 10)
    pixels = 10 * 2 * 3 * 4
    assert Tally(memory=4 * pixels).add(*whole[:2]).exact
    assert not Tally(memory=4 * pixels - 1).add(*whole[:2]).exact
    halves = [Tally(memory=2 * pixels).add(*part(whole, list(range(i, i + 5)))[:2]) for i in (0, 5)]
    assert halves[0].exact
    assert not halves[0].merge(halves[1]).exact


@pytest.mark.parametrize("memory", [2**20, 0])
def test_a_tally_survives_the_disk(tmp_path: Path, memory: int) -> None:
    whole = batch(4, 12)
    tally = Tally("std", shape=Sides(1.5, 0.8), memory=memory)
    tally.add(*part(whole, [0, 1, 2, 3]), groups=["a", "b", 3, 3])
    tally.add(*part(whole, [4, 5, 6, 7]))
    tally.save(tmp_path / "tally.safetensors")
    again = Tally.load(tmp_path / "tally.safetensors")
    rest = part(whole, [8, 9, 10, 11])
    for both in (tally, again):
        both.add(*rest, groups=["b", "c", 3, "3"])
    assert again.images == 12
    assert dateless(again.calibrate(**LEVELS)) == dateless(tally.calibrate(**LEVELS))
    assert tally.calibrate(**LEVELS).n == 9  # a, b, 3, "3", c and four alone
    assert [p.name for p in tmp_path.iterdir()] == ["tally.safetensors"]


@pytest.mark.parametrize("shape", [Sides(2.0, 0.5), Strata((0.07, 0.1), (2.0, 1.0, 0.5))])
def test_a_card_applies_its_shape(tmp_path: Path, shape: Shape) -> None:
    bounds, truth, counted = batch(12, 40)
    card = calibrate(bounds, truth, counted=counted, shape=shape, rule="hb")
    card.save(tmp_path / "card.json")
    again = Calibration.load(tmp_path / "card.json")
    assert again == card
    interval = again(bounds)
    expected = FAMILIES["scale"].apply(bounds, card.size, shape)
    assert torch.equal(interval.lower, expected.lower)
    assert torch.equal(interval.upper, expected.upper)
    missed = (~interval.contains(truth) & counted).sum(dim=(1, 2, 3)) / counted.sum(dim=(1, 2, 3))
    limit = HoeffdingBentkus().largest_mean(40, 0.1, 0.1)
    assert limit - 0.01 < float(missed.mean()) <= limit + 1e-6
    without = FAMILIES["scale"].apply(bounds, card.size)
    assert not torch.equal(without.lower, expected.lower)


def test_a_damaged_tally_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "tally"
    Tally().add(*batch(5, 4)).save(path)
    content = path.read_bytes()
    for damaged in (
        b"",
        content[:40],
        content[:-8],
        b"{}",
        content.replace(b"tally 1", b"tally 9"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(CalibrationError, match="not a readable tally") as caught:
            Tally.load(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(CalibrationError, match="not a readable tally"):
        Tally.load(tmp_path / "missing")


def test_masks_leave_out_what_does_not_count() -> None:
    bounds, truth, counted = batch(6, 30)
    spoilt = torch.where(counted, truth, 1 - truth)
    masked = calibrate(bounds, truth, counted=counted)
    assert calibrate(bounds, spoilt, counted=counted).size == masked.size
    assert calibrate(bounds, spoilt).size != calibrate(bounds, truth).size
    one = counted[:, :1]
    assert (
        calibrate(bounds, truth, counted=one).size
        == calibrate(bounds, truth, counted=one.expand(-1, 2, -1, -1)).size
    )


def test_layout_in_memory_changes_nothing() -> None:
    bounds, truth, counted = batch(7, 30)
    turned = [
        x.to(memory_format=torch.channels_last)
        for x in (bounds.lower, bounds.estimate, bounds.upper)
    ]
    other = Bounds(*turned, MADE)
    strided = truth.repeat_interleave(2, dim=-1)[..., ::2]
    assert not strided.is_contiguous()
    card = calibrate(other, strided, counted=counted.to(memory_format=torch.channels_last))
    assert dateless(card) == dateless(calibrate(bounds, truth, counted=counted))


def test_large_pictures_in_threads_are_like_small_ones() -> None:
    pictures = [batch(k, 2, 96, 200) for k in range(2)]
    together = Tally().add(*pictures[0]).add(*pictures[1])
    alone = Tally()
    for given_batch in pictures:
        for i in (1, 0):
            alone.add(*part(given_batch, [i]))
    for seed in (0, 1):
        settings_of = {"alpha": 0.5, "delta": 0.4, "seed": seed}
        assert dateless(together.calibrate(**settings_of)) == dateless(
            alone.calibrate(**settings_of)
        )


def test_tallies_that_do_not_belong_together_are_refused() -> None:
    bounds, truth, _ = batch(8, 4)
    tally = Tally().add(bounds, truth)
    with pytest.raises(CalibrationError, match="family: 'scale', not 'std'"):
        tally.merge(Tally("std"))
    with pytest.raises(CalibrationError, match=r"shape: None, not .*'below': 2\.0"):
        tally.merge(Tally(shape=Sides(2.0, 1.0)))
    other = replace(bounds, provenance=replace(MADE, noise=0.1))
    with pytest.raises(CalibrationError, match=r"noise: 0\.02, not 0\.1"):
        tally.merge(Tally().add(other, truth))
    with pytest.raises(CalibrationError, match=r"noise: 0\.02, not 0\.1"):
        tally.add(other, truth)
    with pytest.raises(CalibrationError, match="not None"):
        tally.add(replace(bounds, provenance=None), truth)
    assert tally.images == 4
    assert Tally().merge(tally).merge(Tally()).provenance == MADE


def test_what_cannot_be_tallied_is_refused() -> None:
    bounds, truth, counted = batch(9, 4)
    with pytest.raises(InputError, match="3 for 4 images"):
        Tally().add(bounds, truth, groups=["a", "b", "c"])
    with pytest.raises(InputError, match=r"strings or whole numbers, not 0\.5"):
        Tally().add(bounds, truth, groups=["a", "b", "c", 0.5])  # type: ignore[list-item]
    with pytest.raises(InputError, match="counted: bool of shape"):
        Tally().add(bounds, truth, counted.float())
    with pytest.raises(InputError, match="counted: bool of shape"):
        Tally().add(bounds, truth, counted[:, :, :2])
    nothing = counted.clone()
    nothing[2] = False
    with pytest.raises(InputError, match="no pixel of picture 2 counts"):
        Tally().add(bounds, truth, nothing)
    with pytest.raises(InputError, match="truth"):
        Tally().add(bounds, truth.double())
    with pytest.raises(InputError, match="'sum' is unknown"):
        Tally("sum")
    for act in (Tally().calibrate, lambda: Tally().save("nowhere")):
        with pytest.raises(InputError, match="no images yet"):
            act()
    with pytest.raises(CalibrationError, match="calibrated already"):
        Tally().add(replace(bounds, guarantee="yes"), truth)


def test_cards_remember_what_the_pictures_looked_like() -> None:
    bounds, truth, _ = batch(11, 30)
    card = calibrate(bounds, truth)
    assert set(card.sketches) == {sketch(picture) for picture in truth}
    expected = sorted(features(bounds).tolist())
    np.testing.assert_allclose(sorted(card.features), expected, rtol=0, atol=1e-6)
    backwards = calibrate(*part((bounds, truth, truth > 2), list(range(29, -1, -1)))[:2])
    assert backwards.sketches == card.sketches
    np.testing.assert_allclose(backwards.features, card.features, rtol=0, atol=2e-6)


def test_one_large_picture_is_one_unit() -> None:
    """However many pixels it has, they come together."""
    with pytest.raises(CalibrationError, match="1 independent image"):
        calibrate(*batch(10, 1, 100, 100)[:2])
    with pytest.raises(CalibrationError, match="1 independent image"):
        calibrate(*batch(10, 40)[:2], groups=["one specimen"] * 40)
