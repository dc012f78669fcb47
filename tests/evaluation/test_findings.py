"""Findings say what the metrics say, of the intervals that the card makes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from certes.evaluation.findings import Findings
from certes.intervals import Bounds, Calibration, Provenance, calibrate, evaluate, sample_bounds
from certes.intervals.probability import clopper_pearson


def pictures(images: int = 30, side: int = 10) -> tuple[Bounds, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    truth = 0.5 + 0.1 * torch.randn(images, 1, side, side, generator=generator).clamp(-3, 3)
    samples = 0.5 + 0.1 * torch.randn(8, *truth.shape, generator=generator)
    made = Provenance("m", "denoise", samples=8, alpha=0.2)
    return sample_bounds(samples, 0.2, provenance=made, rungs=True), truth


@pytest.fixture(scope="module")
def card() -> Calibration:
    return calibrate(*pictures(), alpha=0.2, delta=0.2)


def test_scores_are_those_of_the_metrics(card: Calibration) -> None:
    bounds, truth = pictures()
    scores = Findings(bounds, truth, card, 0.2).scores
    assert scores["raw"] == evaluate(bounds, truth)
    assert scores["calibrated"] == evaluate(card(bounds), truth)
    assert scores["image_risk"] is None
    at = scores["curve"]["sizes"].index(card.size)
    assert scores["curve"]["size"] == card.size
    assert scores["curve"]["risk"][at] == pytest.approx(scores["calibrated"]["risk"])
    assert scores["curve"]["width"][at] == pytest.approx(scores["calibrated"]["width"])
    json.dumps(scores, allow_nan=False)


def test_without_a_card_the_raw_bounds_are_size_one_of_the_scale() -> None:
    bounds, truth = pictures()
    findings = Findings(bounds, truth, None, 0.2)
    curve = findings.scores["curve"]
    assert findings.scores["calibrated"] is None
    at = curve["sizes"].index(1.0)
    assert curve["risk"][at] == pytest.approx(findings.scores["raw"]["risk"], abs=1e-3)
    np.testing.assert_allclose(
        findings.risks, (~bounds.contains(truth)).double().mean(dim=(1, 2, 3)).numpy()
    )


def test_one_picture_of_many(card: Calibration) -> None:
    bounds, truth = pictures()
    findings = Findings(bounds, truth, card, 0.2)
    third = findings.of(2)
    assert third.guarantee == card.guarantee
    torch.testing.assert_close(third.lower[0], card(bounds).lower[2])


def test_a_card_for_single_pictures_is_judged_by_them(card: Calibration) -> None:
    bounds, truth = pictures()
    tolerant = replace(card, rule="image", delta=None, tolerance=0.15)
    findings = Findings(bounds, truth, tolerant, 0.2)
    worse = int((findings.risks > 0.15).sum())
    assert 0 < worse < 30
    assert findings.scores["image_risk"] == {
        "tolerance": 0.15,
        "images": 30,
        "share": worse / 30,
        "interval": clopper_pearson(worse, 30),
    }


def test_figures_and_what_each_says(card: Calibration, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certes.evaluation.interval_figures._DPI", 30)  # quick to draw
    bounds, truth = pictures()
    with_rungs = list(Findings(bounds, truth, card, 0.2).figures())
    titles = [figure.title for figure in with_rungs]
    assert len(set(titles)) == 6
    assert titles[-1] == "Coverage of nested raw intervals"
    for figure in with_rungs:
        assert figure.png.startswith(b"\x89PNG")
        assert figure.reading.endswith(".")


def test_only_counted_pixels() -> None:
    bounds, truth = pictures()
    counted = torch.zeros(truth.shape, dtype=torch.bool)
    counted[..., :4] = True
    findings = Findings(bounds, truth, None, 0.2, counted)
    left = Bounds(bounds.lower[..., :4], bounds.estimate[..., :4], bounds.upper[..., :4])
    assert findings.scores["raw"]["risk"] == evaluate(left, truth[..., :4])["risk"]
    assert findings.risks.mean() == pytest.approx(findings.scores["raw"]["risk"])
