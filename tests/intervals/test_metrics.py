from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from certes.errors import InputError
from certes.intervals import Bounds, evaluate


def intervals(half: torch.Tensor, estimate: float = 0.5) -> Bounds:
    centre = torch.full_like(half, estimate)
    return Bounds(centre - half, centre, centre + half)


def test_scores_in_closed_form() -> None:
    half = torch.full((2, 1, 4, 4), 0.125)
    truth = torch.full((2, 1, 4, 4), 0.5)
    truth[0, 0, 0] = 0.75  # one row of one image: 4 of 32 pixels
    truth[1] = 0.6
    scores = evaluate(intervals(half), truth)
    assert scores["images"] == 2
    assert scores["risk"] == 4 / 32
    assert scores["width"] == scores["width_median"] == 0.25
    expected = np.mean([-10 * np.log10(0.25**2 / 4), -10 * np.log10(0.1**2)])
    assert scores["psnr"] == pytest.approx(expected, abs=1e-4)
    assert scores["ssim"] is None
    assert scores["risk_interval"] == (0.0, 0.25)  # both images twice, at the ends
    json.dumps(scores, allow_nan=False)


def test_strata_are_quartiles_of_pixels_by_width() -> None:
    half = torch.arange(1, 17).reshape(1, 1, 4, 4).repeat(3, 1, 1, 1) / 64
    truth = torch.full_like(half, 0.5)
    truth[:, 0, 0, :2] = 0.75  # two of the four narrowest pixels
    truth[:, 0, 3, 3] = 0.0  # the widest
    scores = evaluate(intervals(half), truth)
    assert scores["stratified_risk"] == [0.5, 0.0, 0.0, 0.25]
    assert scores["stratified_risk_interval"][0] == (0.5, 0.5)  # all images alike


def test_equal_widths_stay_together_and_leave_strata_empty() -> None:
    truth = torch.full((3, 1, 4, 4), 0.5)
    scores = evaluate(intervals(torch.full((3, 1, 4, 4), 0.1)), truth)
    assert scores["stratified_risk"] == [0.0, None, None, None]
    assert scores["stratified_risk_interval"][1:] == [None, None, None]
    assert scores["psnr"] is None


def test_confidence_interval_counts_images_not_pixels() -> None:
    rng = np.random.default_rng(0)
    misses = torch.tensor(rng.random(50) < 0.2)
    truth = torch.where(misses, 1.0, 0.5)[:, None, None, None].expand(50, 1, 10, 10).contiguous()
    scores = evaluate(intervals(torch.full(truth.shape, 0.1)), truth)
    low, high = scores["risk_interval"]
    standard_error = np.sqrt(scores["risk"] * (1 - scores["risk"]) / 50)
    assert high - low == pytest.approx(2 * 1.96 * standard_error, rel=0.15)
    again = evaluate(intervals(torch.full(truth.shape, 0.1)), truth)
    assert again == scores


def test_one_image_has_no_confidence_interval() -> None:
    scores = evaluate(intervals(torch.full((1, 1, 4, 4), 0.1)), torch.full((1, 1, 4, 4), 0.55))
    assert scores["risk_interval"] is None


def test_ssim_of_equal_and_of_flat_pictures() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(2, 1, 16, 16, generator=generator)
    exact = evaluate(Bounds(truth, truth, truth), truth)
    assert exact["ssim"] == pytest.approx(1.0, abs=1e-5)
    assert evaluate(intervals(torch.zeros_like(truth)), truth)["ssim"] < 0.1


def test_refuses_a_truth_of_another_shape() -> None:
    with pytest.raises(InputError, match="truth: shape"):
        evaluate(intervals(torch.full((2, 1, 4, 4), 0.1)), torch.zeros(2, 1, 4, 5))
