"""The figure shows the bounds that it is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from certes.diffusion.likelihood import Bound, Level
from certes.evaluation import rate_distortion
from certes.evaluation.rate_distortion import rate_distortion_figure


def bound(variance: Any, pictures: tuple[float, ...] = (2.0, 3.0)) -> Bound:
    error = 0.1 if len(pictures) > 1 else None
    levels = (Level(0.8, 0.2, 10, 0.5, error, 30.0), Level(0.2, 0.01, 1, 0.25, error, 9.0))
    return Bound(variance, 0.125, levels, Level(0.01, 0.0, 1, 1.625, error, 1.5), pictures)


@pytest.mark.parametrize("pictures", [(2.5,), (2.0, 3.0)])
def test_figure_is_a_png(tmp_path: Path, pictures: tuple[float, ...]) -> None:
    names = ("small", "large", "learned", "calibrated")
    bounds = [bound(variance, pictures) for variance in names]
    rate_distortion_figure(tmp_path / "a.png", bounds, title="two pictures")
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"
        assert min(image.size) > 400
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


class Recorder:
    """An axis that remembers the lines drawn on it."""

    def __init__(self) -> None:
        self.lines: dict[str, tuple[list[float], list[float]]] = {}
        self.yaxis = self

    def plot(self, x: Any, y: Any, *_: Any, label: str = "", **__: Any) -> None:
        if label:
            self.lines[label] = (list(x), list(y))

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


def test_the_curve_and_its_legend() -> None:
    axis = Recorder()
    rate_distortion._draw_curve(axis, [bound("small")])
    ((label, (rates, errors)),) = axis.lines.items()
    assert label == "small: 2.500 ± 0.500 = 0.875 + 1.625"
    # Within the ten steps of the first level the rate rises evenly: 4.5 of them are behind.
    assert rates == pytest.approx([0.125 + 0.5 * 0.45, 0.625, 0.875])
    assert errors == [30.0, 9.0, 1.5]


def test_the_cost_of_a_step() -> None:
    axis = Recorder()
    rate_distortion._draw_steps(axis, [bound("large")])
    noise, bits = axis.lines["large"]
    assert noise == pytest.approx([255 * 0.4, 255 * (0.2 * 0.01) ** 0.5])
    assert bits == pytest.approx([0.05, 0.25])
