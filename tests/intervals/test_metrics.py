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


def scattered(images: int, side: int, seed: int) -> tuple[Bounds, torch.Tensor]:
    """Intervals of many widths, some of which miss, in pictures that differ in difficulty."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(images, 1, side, side, generator=generator)
    half = 0.02 + 0.1 * torch.rand(truth.shape, generator=generator)
    harder = 0.3 + torch.rand(images, 1, 1, 1, generator=generator)
    estimate = truth + half * harder * torch.randn(truth.shape, generator=generator)
    return Bounds(estimate - half, estimate, estimate + half), truth


def flat(scores: object) -> list[float | None]:
    """All numbers in the scores, in order."""
    if isinstance(scores, dict):
        scores = list(scores.values())
    if isinstance(scores, list | tuple):
        return [number for part in scores for number in flat(part)]
    return [scores]  # pyright: ignore[reportReturnType]


def joined(parts: list[tuple[Bounds, torch.Tensor]]) -> tuple[Bounds, torch.Tensor]:
    lower, estimate, upper, truth = (
        torch.cat(planes)
        for planes in zip(*((b.lower, b.estimate, b.upper, t) for b, t in parts), strict=True)
    )
    return Bounds(lower, estimate, upper), truth


def test_batches_of_one_size_are_one_batch() -> None:
    parts = [scattered(3, 12, 0), scattered(4, 12, 1)]
    split = evaluate([b for b, _ in parts], [t for _, t in parts])
    assert flat(split) == pytest.approx(flat(evaluate(*joined(parts))))
    assert split["miscoverage"] is not None


def test_pictures_of_unequal_size_weigh_alike() -> None:
    parts = [scattered(1, 6, 0), scattered(1, 12, 1)]
    scores = evaluate([b for b, _ in parts], [t for _, t in parts])
    alone = [evaluate(*part) for part in parts]
    for name in ("risk", "width", "psnr"):
        assert scores[name] == pytest.approx(np.mean([s[name] for s in alone]))
    pooled = np.average([s["risk"] for s in alone], weights=[36, 144])
    assert abs(scores["risk"] - pooled) > 0.01  # the control: large pictures do not count more
    assert scores["miscoverage"] is None


def test_strata_add_up_to_the_risk_where_pictures_are_unequal() -> None:
    parts = [scattered(5, 8, 0), scattered(3, 20, 1)]
    bounds, truths = [b for b, _ in parts], [t for _, t in parts]
    scores = evaluate(bounds, truths)
    edges = np.quantile(
        np.concatenate([b.width.numpy().ravel() for b in bounds]), [0.25, 0.5, 0.75]
    )
    shares = np.zeros(4)
    for b in bounds:
        for width in b.width.flatten(1).numpy():
            stratum = np.searchsorted(edges, width)
            shares += np.bincount(stratum, minlength=4) / len(width) / 8
    assert np.dot(shares, scores["stratified_risk"]) == pytest.approx(scores["risk"])


def test_only_counted_pixels() -> None:
    bounds, truth = scattered(4, 16, 0)
    counted = torch.zeros(4, 1, 16, 16, dtype=torch.bool)
    counted[:, :, :, :6] = True
    left = Bounds(*(p[..., :6].contiguous() for p in (bounds.lower, bounds.estimate, bounds.upper)))
    masked, cut = evaluate(bounds, truth, counted=counted), evaluate(left, truth[..., :6])
    assert flat({**masked, "ssim": None}) == pytest.approx(flat(cut))
    assert masked["ssim"] == evaluate(bounds, truth)["ssim"]  # windows need the whole picture
    assert masked["risk"] != evaluate(bounds, truth)["risk"]


def test_groups_are_the_units() -> None:
    """Five crops of each specimen: the interval of the risk is that of the specimens."""
    rng = np.random.default_rng(0)
    missed = torch.tensor(rng.random(30) < 0.3).repeat_interleave(5)
    truth = torch.where(missed, 1.0, 0.5)[:, None, None, None].expand(150, 1, 4, 4).contiguous()
    bounds = intervals(torch.full(truth.shape, 0.1))
    labels = [i // 5 for i in range(150)]
    whole, crops = evaluate(bounds, truth, groups=labels), evaluate(bounds, truth)
    assert (whole["images"], whole["units"], crops["units"]) == (150, 30, 150)
    assert whole["risk"] == pytest.approx(crops["risk"])
    low, high = whole["risk_interval"]
    sd = np.sqrt(whole["risk"] * (1 - whole["risk"]) / 30)
    assert high - low == pytest.approx(2 * 1.96 * sd, rel=0.15)
    # The control: crops taken for independent make it narrower by the root of five.
    low, high = crops["risk_interval"]
    assert high - low == pytest.approx(2 * 1.96 * sd / np.sqrt(5), rel=0.15)


def test_small_groups_weigh_as_much_as_large_ones() -> None:
    bounds, truth = scattered(4, 8, 3)
    scores = evaluate(bounds, truth, groups=["a", "b", "b", "b"])
    risks = (~bounds.contains(truth)).double().mean(dim=(1, 2, 3))
    assert scores["risk"] == pytest.approx(float((risks[0] + risks[1:].mean()) / 2))


def test_refuses_what_does_not_match() -> None:
    bounds, truth = scattered(2, 4, 0)
    with pytest.raises(InputError, match="truth: 2 batches, wanted 1"):
        evaluate(bounds, [truth, truth])
    with pytest.raises(InputError, match="counted: 1 batches, wanted 2"):
        evaluate([bounds, bounds], [truth, truth], counted=torch.ones(2, 1, 4, 4).bool())
    with pytest.raises(InputError, match="counted: bool of shape"):
        evaluate(bounds, truth, counted=torch.ones(2, 1, 4, 4))
    with pytest.raises(InputError, match="counted: no pixel of picture 0"):
        evaluate(bounds, truth, counted=torch.zeros(2, 1, 4, 4).bool())
    with pytest.raises(InputError, match="groups: one label per image"):
        evaluate(bounds, truth, groups=["a"])
