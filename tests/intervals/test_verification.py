from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from certes.errors import CalibrationError
from certes.intervals import Bounds, Provenance, calibrate, verify_card, verify_synthetic
from certes.intervals.populations import AllOrNothing, Lognormal

TRIALS = 300


@pytest.fixture(scope="module")
def rows():
    return verify_synthetic(TRIALS, sizes=(100,))


def test_sound_rules_hold_on_every_population(rows) -> None:
    sound = [row for row in rows if not row.control]
    assert len(sound) == 10
    assert [row for row in sound if row.verdict != "holds"] == []


def test_negative_controls_are_rejected(rows) -> None:
    controls = {row.procedure: row for row in rows if row.control}
    assert len(controls) == 3
    assert {row.verdict for row in controls.values()} == {"rejected"}
    assert controls["sorted images (wsr)"].failures == TRIALS
    assert all(row.as_expected for row in rows)


def test_betting_is_neither_loose_nor_vacuous(rows) -> None:
    by_name = {(row.population, row.procedure): row for row in rows}
    worst = by_name["all or nothing", "wsr"]
    assert worst.interval[1] > 0.05
    # Width over the oracle's at n = 100, tau 0.3: 1.107 for the published bets, 1.304 for hb.
    assert by_name["lognormal, tau 0.3", "wsr"].excess < 0.13
    assert by_name["lognormal, tau 0.3", "hb"].excess == pytest.approx(0.304, abs=0.02)


def test_thresholds_are_binomial(rows) -> None:
    assert {row.threshold for row in rows} == {47}  # P(Binomial(300, 0.1) <= 46) = 0.9986


@pytest.mark.parametrize("population", [Lognormal(0.0), Lognormal(0.5), AllOrNothing()])
def test_closed_form_risks_agree_with_draws(population) -> None:
    values = population.draw(np.random.default_rng(0), 20_000)
    for alpha in (0.1, 0.4):
        size = population.smallest_size(alpha)
        assert population.risk(size) == pytest.approx(alpha, abs=1e-12)
        by_image = (values > size).mean(axis=1)
        error = by_image.std() / math.sqrt(len(values))
        assert by_image.mean() == pytest.approx(alpha, abs=4 * error)


def test_plain_gaussian_needs_its_textbook_quantile() -> None:
    assert Lognormal(0.0).smallest_size(0.1) == pytest.approx(1.6448536269514722, rel=1e-12)
    assert AllOrNothing().smallest_size(0.1) == pytest.approx(math.log(10), rel=1e-12)


def held_out(seed: int, noise: float = 1.0, images: int = 60) -> tuple[Bounds, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    estimate = 0.3 + 0.4 * torch.rand(images, 1, 6, 6, generator=generator)
    half = torch.full_like(estimate, 0.05)
    truth = estimate + noise * half * torch.randn(estimate.shape, generator=generator)
    made = Provenance("abc", "denoise")
    return Bounds(estimate - half, estimate, estimate + half, made), truth.clamp(0, 1)


def test_a_card_is_checked_on_images_it_has_not_seen() -> None:
    card = calibrate(*held_out(0))
    checked = verify_card(card, *held_out(1))
    assert (checked.verdict, checked.images) == ("holds", 60)
    assert checked.risk < 0.1
    worse = verify_card(card, *held_out(2, noise=2.0))
    assert worse.verdict == "broken"
    assert worse.interval is not None
    assert worse.interval[0] > 0.1


def test_a_card_is_not_checked_on_another_task() -> None:
    bounds, truth = held_out(0)
    other = replace(bounds, provenance=Provenance("abc", "deblur"))
    with pytest.raises(CalibrationError, match="operator: 'denoise', not 'deblur'"):
        verify_card(calibrate(bounds, truth), other, truth)
