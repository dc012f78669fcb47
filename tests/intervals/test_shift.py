"""New pictures that look like those of the calibration are left alone; others are pointed out."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from certes.data.bundled import bundled_pictures
from certes.errors import CertesWarning
from certes.intervals import Bounds
from certes.intervals.probability import binomial_quantile
from certes.intervals.shift import FALSE_ALARMS, check_shift, difference, features, strangeness

MIXING = np.eye(5) + 0.4 * np.random.default_rng(7).standard_normal((5, 5))


def table(rng: np.random.Generator, count: int, tail: float) -> np.ndarray:
    """Correlated features of pictures: normal, or heavy-tailed (Student) for a finite `tail`."""
    z = rng.standard_normal((count, 5))
    if np.isfinite(tail):
        z /= np.sqrt(rng.chisquare(tail, (count, 1)) / tail)
    return z @ MIXING


def alarms(known: np.ndarray, new: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr("certes.intervals.shift.features", lambda bounds: new)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_shift(known.tolist(), bounds())
    return bool(caught)


def bounds(pictures: torch.Tensor | None = None, half: float = 0.05) -> Bounds:
    estimate = torch.full((1, 1, 16, 16), 0.5) if pictures is None else pictures
    return Bounds((estimate - half).clamp(0, 1), estimate, (estimate + half).clamp(0, 1))


@pytest.mark.parametrize(("known", "new"), [(25, 1), (70, 1), (150, 1), (40, 6)])
@pytest.mark.parametrize("tail", [np.inf, 5.0])
def test_false_alarms_are_as_rare_as_promised(
    known: int, new: int, tail: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, trials = np.random.default_rng(known + new), 300 if new == 1 else 100
    count = sum(
        alarms(table(rng, known, tail), table(rng, new, tail), monkeypatch) for _ in range(trials)
    )
    assert count <= binomial_quantile(0.999, trials, 1.5 * FALSE_ALARMS)


@pytest.mark.parametrize(("new", "shift"), [(1, 12.0), (20, 1.5)])
def test_shifted_pictures_are_found(
    new: int, shift: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: one far away, or many that are a little elsewhere."""
    rng = np.random.default_rng(0)
    away = np.array([shift, 0, 0, 0, 0]) @ MIXING
    found = [
        alarms(table(rng, 70, np.inf), table(rng, new, np.inf) + away, monkeypatch)
        for _ in range(20)
    ]
    assert sum(found) >= 18


def test_single_p_values_are_uniform_ranks() -> None:
    """Exact for any distribution: centre and scatter are symmetric in all pictures."""
    rng, n = np.random.default_rng(1), 20
    values = [strangeness(table(rng, n, 4), table(rng, 1, 4))[0] for _ in range(800)]
    for level in (0.2, 0.5, 0.8):
        below = np.mean(np.array(values) <= level)
        assert below == pytest.approx(np.floor((n + 1) * level) / (n + 1), abs=0.06)


def test_joint_p_values_are_uniform() -> None:
    rng = np.random.default_rng(2)
    values = np.array([difference(table(rng, 25, 3), table(rng, 5, 3)) for _ in range(100)])
    assert np.abs(np.sort(values) - (np.arange(100) + 0.5) / 100).max() < 1.95 / np.sqrt(100)


def real() -> torch.Tensor:
    pixels = torch.stack([picture.pixels for picture in bundled_pictures()])
    return pixels.unfold(2, 64, 64).unfold(3, 64, 64).movedim(1, 3).flatten(0, 2)


def test_pictures_of_another_kind_are_named() -> None:
    crops = real()
    card = features(bounds(crops)).tolist()
    negative = bounds(torch.cat([crops[:3], 1 - crops[3:4]]))
    with pytest.warns(CertesWarning, match="picture 4 of 4 does not look like those that the card"):
        check_shift(card, negative)
    with pytest.warns(CertesWarning, match="this picture does not look like"):
        check_shift(card, bounds(1 - crops[:1]))
    black = torch.zeros(6, 1, 64, 64)
    with pytest.warns(CertesWarning, match="pictures 1, 2, 3, 4, 5 and 1 more of 6 do not look"):
        check_shift(card, Bounds(black, black + 0.5, black + 1))


def test_a_batch_of_a_kind_of_its_own_is_noticed() -> None:
    crops = real()
    order = torch.randperm(len(crops), generator=torch.Generator().manual_seed(0))
    card = features(bounds(crops[order[:64]])).tolist()
    wider = bounds(crops[order[64:]], half=0.08)
    with pytest.warns(CertesWarning, match="taken together, these 64 pictures do not look like"):
        check_shift(card, wider)


def test_exchangeable_real_pictures_raise_no_alarm() -> None:
    crops = real()
    order = torch.randperm(len(crops), generator=torch.Generator().manual_seed(3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_shift(features(bounds(crops[order[:96]])).tolist(), bounds(crops[order[96:]]))


def test_nothing_is_said_of_a_few_pictures_or_pixels() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_shift((), bounds())
        check_shift([[float(i)] * 5 for i in range(19)], bounds())
        pixel = torch.full((1, 1, 1, 1), 0.5)
        check_shift([[0.0] * 5] * 30, Bounds(pixel, pixel, pixel))


def test_features_do_not_depend_on_size() -> None:
    small = torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    large = small.repeat(1, 1, 2, 2)
    parts = [Bounds(0 * x, x / 2, x) for x in (small, large)]
    assert np.allclose(features(parts[0]), features(parts[1]), atol=0.03, rtol=0)


def test_features_are_what_they_say() -> None:
    lower = torch.zeros(1, 1, 8, 8)
    upper = torch.linspace(0.2, 1, 64).reshape(1, 1, 8, 8)
    estimate = torch.zeros(1, 1, 8, 8)
    estimate[..., ::2] = 0.1
    numbers = features(Bounds(lower, estimate, upper))[0]
    assert numbers[0] == pytest.approx(0.05)
    assert numbers[1] == pytest.approx(np.log(0.05), rel=1e-4)
    assert numbers[2] == pytest.approx(np.log(0.6), rel=1e-4)
    assert numbers[3] == pytest.approx(np.log(np.sqrt(0.01 / 2)), rel=1e-4)  # rows alone differ
    assert numbers[4] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 1, 9), (1, 1, 2, 2)])
def test_features_of_anything_are_finite(shape: tuple[int, ...]) -> None:
    assert np.isfinite(features(bounds(torch.zeros(shape)))).all()
    assert features(bounds(torch.zeros(shape))).shape == (shape[0], 5)
