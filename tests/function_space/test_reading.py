"""Units and predictions: everything of variance 1, and what is asked is what is answered."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from certes.diffusion.schedules import Cosine
from certes.errors import ModelError
from certes.function_space.coordinates import Lattice
from certes.function_space.mollifier import Mollifier
from certes.function_space.reading import Prediction, Reading, reading_from_config

PREDICTIONS = get_args(Prediction)
SIDE, COUNT = 16, 6000


def reading(prediction: Prediction = "v", width: float = 0.75) -> Reading:
    return Reading(Cosine(), Mollifier(width), prediction, center=0.3, scale=0.2)


@pytest.fixture(scope="module")
def white() -> Tensor:
    return torch.randn(COUNT, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def places(x: Tensor) -> dict[str, Tensor]:
    """Interior, edge and corner, all mirror images together."""
    turned = torch.cat([x.flip(i) for i in ((), (2,), (3,), (2, 3))])
    return {
        "interior": turned[:, 0, 7, 7],
        "edge": turned[:, 0, 0, 7],
        "corner": turned[:, 0, 0, 0],
    }


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("level", [0.01, 0.7, 30.0])
def test_target_and_clean_are_inverse(prediction: Prediction, level: float, white: Tensor) -> None:
    r, z0, lattice = reading(prediction), torch.rand(3, 1, SIDE, SIDE), Lattice(SIDE, SIDE)
    deviation = r.deviation(lattice)
    ratio, mollified, noise = level * deviation, r.mollifier(z0), r.mollifier(white[:3])
    seen = r.seen(mollified + level * noise, ratio)
    answer = r.target(z0, mollified, noise / deviation, ratio)
    wanted = z0 if prediction == "x0" else mollified
    torch.testing.assert_close(
        r.clean(seen, answer, ratio), wanted, atol=1e-5 * (1 + level), rtol=0
    )
    # An error of the answer is an error of the estimate, times the weight.
    wrong = r.clean(seen, answer + 0.1, ratio) - wanted
    expected = (0.1 * r.weight(ratio)).expand_as(wrong)
    torch.testing.assert_close(wrong.abs(), expected, atol=2e-5 * (1 + level), rtol=0)


def test_inputs_and_noise_have_unit_variance_everywhere(white: Tensor) -> None:
    """At borders too, where mirrored noise is correlated with itself."""
    r, lattice = reading("noise"), Lattice(SIDE, SIDE)
    deviation, level = r.deviation(lattice), 3.0
    mollified = r.mollifier(torch.randn(COUNT, 1, SIDE, SIDE)) / deviation  # of variance 1 too
    noise = r.mollifier(white)
    ratio = level * deviation
    target = r.target(mollified, mollified, noise / deviation, ratio)
    seen = r.seen(mollified + level * noise, ratio)
    for values in (target, seen):
        for place, at in places(values).items():
            assert at.var() == pytest.approx(1, abs=0.04), place
    v = reading("v").target(mollified, mollified, noise / deviation, ratio)
    assert v.var() == pytest.approx(1, abs=0.02)
    # The negative control: with one deviation for all, an edge, half a pixel from its own mirror
    # image, has 1 + exp(-1 / (4 w^2)) times the variance, and a corner the square of that.
    flat, more = places(noise / r.mollifier.typical_deviation()), 1 + math.exp(-1 / (4 * 0.75**2))
    assert flat["edge"].var() == pytest.approx(more, rel=0.05)
    assert flat["corner"].var() == pytest.approx(more**2, rel=0.05)


def test_noise_of_a_unit_of_area_is_the_same_at_every_pitch() -> None:
    r = reading()
    one, fine = r.deviation(Lattice(SIDE, SIDE)), r.deviation(Lattice(2 * SIDE, 2 * SIDE, 0.5))
    typical = r.mollifier.typical_deviation()
    assert one[0, 0, 8, 8] == pytest.approx(typical, rel=1e-3)
    assert fine[0, 0, 16, 16] == pytest.approx(typical, rel=2e-3)


def test_times_and_levels_are_inverse() -> None:
    r, t = reading(), torch.linspace(0.02, 0.98, 9, dtype=torch.float64)
    torch.testing.assert_close(r.time(r.level(t)), t)
    # The level is the mollified noise's: of variance one at equal parts of signal and noise.
    middle = r.level(torch.tensor([0.5], dtype=torch.float64)) * r.mollifier.typical_deviation()
    assert float(middle) == pytest.approx(1.0, rel=1e-6)
    ends = r.time(torch.tensor([0.0, 1e9], dtype=torch.float64))
    assert (float(ends[0]), float(ends[1])) == pytest.approx((0.0, 1.0), abs=1e-3)
    assert torch.equal(r.told(t), 1000 * t)


def test_without_a_mollifier_it_is_ordinary_diffusion() -> None:
    r, x = reading(width=0.0), torch.rand(2, 1, 8, 8)
    assert torch.equal(r.mollifier(x), x)
    torch.testing.assert_close(r.deviation(Lattice(8, 8)), torch.ones(1, 1, 8, 8))
    torch.testing.assert_close(r.image(r.normalised(x)), x)


def test_configurations() -> None:
    for prediction in PREDICTIONS:
        r = reading(prediction, 0.5)
        assert reading_from_config(r.to_config()) == r
    with pytest.raises(ModelError, match="prediction: 'score'"):
        reading("score")  # pyright: ignore
    with pytest.raises(ModelError, match="'scale' is missing"):
        reading_from_config({k: v for k, v in reading().to_config().items() if k != "scale"})
