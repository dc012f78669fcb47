from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from certes.errors import CalibrationError
from certes.intervals import Bounds, Provenance, calibrate, verify_card
from certes.intervals.experiments import Experiment, Outcome, Procedure
from certes.intervals.families import FAMILIES, Scale
from certes.intervals.populations import AllOrNothing, Lognormal, Uneven, smallest_size, stage
from certes.intervals.probability import binomial_above, binomial_cdf, normal_miss
from certes.intervals.procedures import controls, rules_on, shapes_on
from certes.intervals.rules import RULES
from certes.intervals.shapes import Sides, Strata
from certes.intervals.verification import synthetic_experiments, verify_synthetic

TRIALS = 300
LEVELS = {"alpha": 0.1, "delta": 0.1}


def rows_of(experiment: Experiment, trials: int = TRIALS):
    return {row.procedure: row for row in experiment.run(trials, 0.1, 0.1, seed=0)}


@pytest.fixture(scope="module")
def usual():
    return rows_of(rules_on(Lognormal(0.3), "scale", 100, 0.1, 0.1))


@pytest.fixture(scope="module")
def worst():
    return rows_of(rules_on(AllOrNothing(), "scale", 100, 0.1, 0.1))


def test_sound_rules_hold_or_refuse_where_they_say(usual, worst) -> None:
    for rows in (usual, worst):
        assert rows.keys() == RULES.keys()
        assert all(row.as_expected for row in rows.values())
        assert {n for n, row in rows.items() if row.verdict == "refuses"} == {"hoeffding"}
        assert {n for n, row in rows.items() if row.on_average} == {"crc", "image"}


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "scale"])
def test_sound_rules_hold_under_every_family(family: str) -> None:
    rows = rows_of(rules_on(AllOrNothing(), family, 50, 0.1, 0.1), 150)
    assert all(row.as_expected for row in rows.values())
    assert rows["wsr"].failures > 0


def test_negative_controls_are_rejected() -> None:
    experiments = [*controls(100, 0.1, 0.1)]
    trials = [TRIALS, TRIALS, 100]  # the checkpoints are 50 calibrations each
    controlled = [
        row for e, t in zip(experiments, trials, strict=True) for row in rows_of(e, t).values()
    ]
    assert len(controlled) == 6
    assert all(row.control and row.as_expected for row in controlled)
    assert {row.verdict for row in controlled} == {"rejected"}
    by_name = {row.procedure: row for row in controlled}
    assert by_name["sorted images (wsr)"].failures == TRIALS
    # The same calibrations, judged by what the rule promises, hold.
    crc = by_name["crc judged as rcps"]
    assert crc.mean is not None
    assert crc.mean < 0.1


def test_a_family_that_finds_too_small_critical_values_is_rejected(monkeypatch) -> None:
    assert rows_of(rules_on(AllOrNothing(), "std", 100, 0.1, 0.1))["wsr"].verdict == "holds"
    honest = Scale._critical
    monkeypatch.setattr(Scale, "_critical", lambda *a: 0.8 * honest(*a))
    broken = rows_of(rules_on(AllOrNothing(), "std", 100, 0.1, 0.1))
    assert [broken[rule].verdict for rule in ("wsr", "crc", "image")] == ["rejected"] * 3


def test_betting_is_neither_loose_nor_vacuous(usual, worst) -> None:
    assert worst["wsr"].interval[1] > 0.05
    # Size over the oracle's at n = 100, tau 0.3: 1.107 for the published bets, 1.304 for hb, 1.036.
    assert usual["wsr"].excess < 0.13
    assert usual["hb"].excess == pytest.approx(0.304, abs=0.02)
    assert usual["crc"].excess == pytest.approx(0.036, abs=0.02)
    assert usual["image"].mean > 0.085


def test_shapes_hold_and_earn_their_keep() -> None:
    rows = rows_of(shapes_on(Uneven(Lognormal(0.3), 3.0, 2.0), 200, 0.1, 0.1), 60)
    assert all(row.verdict == "holds" for row in rows.values())
    assert rows["wsr, sides"].excess < rows["wsr"].excess - 0.03
    assert rows["wsr, strata"].excess < rows["wsr"].excess - 0.03


def test_shapes_refuse_where_they_say() -> None:
    for n in (25, 33, 34, 35, 36):
        rows = rows_of(shapes_on(Uneven(Lognormal(0.3), 3.0, 2.0), n, 0.1, 0.1), 2)
        assert all(row.as_expected for row in rows.values())
        assert (rows["wsr, sides"].verdict == "refuses") == (n < 36)
        assert (rows["wsr, strata"].verdict == "refuses") == (n < 33)


def test_a_stream_of_draws_is_the_experiments_own() -> None:
    few = {"trials": 3, "alpha": 0.1, "delta": 0.1, "seed": 1}
    together = verify_synthetic(3, sizes=(30, 40), seed=1)
    alone = rules_on(AllOrNothing(), "level", 40, 0.1, 0.1).run(**few)
    assert [row for row in together if (row.n, row.family) == (40, "level")][-6:] == alone
    assert alone != rules_on(AllOrNothing(), "level", 40, 0.1, 0.1).run(**{**few, "seed": 2})
    first, other = (rules_on(AllOrNothing(), f, 40, 0.1, 0.1).run(**few) for f in ("scale", "std"))
    assert first[0].excess != other[0].excess


def test_every_rule_meets_every_family_and_each_row_is_json() -> None:
    experiments = synthetic_experiments(sizes=(25,), control_sizes=(100,))
    met = {(e.family, p.name) for e in experiments for p in e.procedures if not p.control}
    assert {(family, rule) for family in FAMILIES for rule in RULES} <= met
    names = [(e.population, e.family, e.n) for e in experiments if not e.procedures[0].control]
    assert len(set(names)) == len(names)
    for trials in (1, 2):
        rows = [row for e in experiments for row in e.run(trials, 0.1, 0.1, 0)]
        json.dumps([asdict(row) for row in rows], allow_nan=False)


def test_verdicts() -> None:
    def row(values: list[float | None], on_average: bool = False, needed: int = 0):
        drawn = iter(values)

        def trial(_: object) -> Outcome:
            value = next(drawn)
            if value is None:
                raise CalibrationError("too few")
            return Outcome(value, 0.0)

        procedure = Procedure("p", trial, needed, on_average)
        experiment = Experiment("made up", "scale", 10, lambda rng: None, [procedure])
        return experiment.run(len(values), 0.1, 0.1, 0)[0]

    # P(Binomial(100, 0.1) <= 20) = 0.9992 and <= 19 only 0.998.
    assert row([0.2] * 20 + [0.1] * 80).verdict == "holds"
    assert row([0.2] * 21 + [0.1] * 79).verdict == "rejected"
    assert row([0.2] * 40 + [0.0] * 60, on_average=True).verdict == "holds"
    assert row([0.2] * 75 + [0.0] * 25, on_average=True).verdict == "rejected"
    assert row([None] * 5, needed=11).as_expected
    assert not row([None] * 5, needed=10).as_expected
    assert not row([0.0] * 5, needed=11).as_expected
    assert not row([0.0] * 4 + [None], needed=10).as_expected


@pytest.mark.parametrize("population", [Lognormal(0.0), Lognormal(0.5), AllOrNothing()])
def test_closed_forms_agree_with_draws(population) -> None:
    values = population.draw(np.random.default_rng(0), 20_000)
    for alpha in (0.1, 0.4):
        size = smallest_size(population.risk, alpha)
        assert population.risk(size) == pytest.approx(alpha, abs=1e-12)
        by_image = (values > size).mean(axis=1)
        error = by_image.std() / math.sqrt(len(values))
        assert by_image.mean() == pytest.approx(alpha, abs=4 * error)
        bad = (by_image > 0.1).mean()
        error = math.sqrt(bad * (1 - bad) / len(values)) + 1e-4
        assert population.share_of_bad(size, 0.1) == pytest.approx(bad, abs=4 * error)


def test_plain_gaussian_needs_its_textbook_quantile() -> None:
    assert smallest_size(Lognormal(0.0).risk, 0.1) == pytest.approx(1.6448536269514722, rel=1e-12)
    assert smallest_size(AllOrNothing().risk, 0.1) == pytest.approx(math.log(10), rel=1e-12)


def test_probabilities_in_closed_form() -> None:
    above = binomial_above(6.4, 64, np.array([0.1, 0.3]))
    assert above == pytest.approx([1 - binomial_cdf(6, 64, p) for p in (0.1, 0.3)])
    assert normal_miss(np.array([0.0, 1.959963985])) == pytest.approx([1.0, 0.05])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pixels", [1, 64])
def test_a_family_finds_the_multiples_at_which_truths_were_put(family: str, pixels: int) -> None:
    place = stage(family, 40, pixels)
    rng = np.random.default_rng(1)
    multiples = np.exp(rng.standard_normal((40, pixels)))
    multiples[0] = np.linspace(0.0, 49.0, pixels)
    truth = place.truth(multiples)
    assert 0 < float(truth.min()) < float(truth.max()) < 1
    found = [place.plain(size) for size in place.critical(multiples).astype(float).ravel()]
    np.testing.assert_allclose(found, multiples.ravel(), rtol=1e-3, atol=1e-3)
    assert 0 < place.above.mean() < 1


@pytest.mark.parametrize("shape", [None, Sides(0.5, 2.0), Strata((0.006, 0.009), (2.0, 1.0, 0.5))])
def test_uneven_risk_and_width_agree_with_the_family(shape) -> None:
    uneven, n, size = Uneven(Lognormal(0.5), 3.0, 2.0), 20_000, 2.5
    bounds = uneven.bounds(n)
    truth = uneven.truth(np.random.default_rng(0), n)
    interval = FAMILIES["scale"].apply(bounds, size, shape)
    by_image = (~interval.contains(truth)).float().mean(dim=-1).numpy().ravel()
    error = float(by_image.std()) / math.sqrt(n)
    assert uneven.risk(size, shape) == pytest.approx(float(by_image.mean()), abs=4 * error)
    assert uneven.width(size, shape) == pytest.approx(float(interval.width.mean()), rel=1e-5)


def held_out(
    seed: int, noise: float = 1.0, images: int = 60, half: float = 0.05
) -> tuple[Bounds, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    estimate = 0.3 + 0.4 * torch.rand(images, 1, 6, 6, generator=generator)
    halves = torch.full_like(estimate, half)
    truth = estimate + noise * halves * torch.randn(estimate.shape, generator=generator)
    made = Provenance("abc", "denoise")
    return Bounds(estimate - halves, estimate, estimate + halves, made), truth.clamp(0, 1)


def test_a_card_is_checked_on_images_it_has_not_seen() -> None:
    card = calibrate(*held_out(0))
    checked = verify_card(card, *held_out(1))
    assert (checked.verdict, checked.images) == ("holds", 60)
    assert checked.risk < 0.1
    worse = verify_card(card, *held_out(2, noise=2.0))
    assert worse.verdict == "broken"
    assert worse.interval is not None
    assert worse.interval[0] > 0.1


def test_a_card_of_images_is_checked_by_its_bad_images() -> None:
    card = calibrate(*held_out(0), rule="image", alpha=0.2, tolerance=0.3)
    bounds, truth = held_out(1)
    checked = verify_card(card, bounds, truth)
    shares = (~card(bounds).contains(truth)).float().mean(dim=(1, 2, 3))
    assert (checked.tolerance, checked.delta) == (0.3, None)
    assert checked.risk == float((shares > 0.3).double().mean())
    assert checked.interval is not None
    assert checked.interval[0] <= checked.risk <= checked.interval[1]
    labels = [i // 3 for i in range(60)]
    grouped = verify_card(card, bounds, truth, groups=labels)
    assert grouped.risk == float((shares.reshape(20, 3).mean(dim=1) > 0.3).double().mean())
    assert verify_card(card, *held_out(2, noise=3.0)).verdict == "broken"


def test_only_counted_pixels_count_on_held_out_images() -> None:
    bounds, truth = held_out(0)
    counted = torch.zeros(truth.shape, dtype=torch.bool)
    counted[..., :3] = True
    spoilt = torch.where(counted, truth, 0.0)
    card = calibrate(bounds, spoilt, counted=counted)
    assert verify_card(card, bounds, spoilt, counted=counted).risk < 0.1
    assert verify_card(card, bounds, spoilt).risk > 0.3


def test_a_card_is_not_checked_on_another_task() -> None:
    bounds, truth = held_out(0)
    other = replace(bounds, provenance=Provenance("abc", "deblur"))
    with pytest.raises(CalibrationError, match="operator: 'denoise', not 'deblur'"):
        verify_card(calibrate(bounds, truth), other, truth)
