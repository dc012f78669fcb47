"""Figures are drawn whatever the scores are, and show the numbers that they are given."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from certes.evaluation import interval_figures as figures
from certes.intervals.curves import RiskCurve, RungScore

SCORE = {
    "stratified_risk": [0.2, None, 0.1, 0.05],
    "stratified_risk_interval": [(0.15, 0.3), None, (0.1, 0.12), (0.0, 0.07)],
}
CURVE = RiskCurve(
    np.array([0.5, 1.0, 2.0]),
    np.array([0.3, 0.1, 0.0]),
    np.array([[0.2, 0.4], [0.05, 0.2], [0.0, 0.0]]),
    np.array([0.1, 0.2, 0.4]),
)
SHARES = np.array([[0.0, 0.5], [np.nan, 1.0]])
DRAWN: dict[str, Callable[[], bytes]] = {
    "strata": lambda: figures.stratified_risk_figure({"raw": SCORE, "calibrated": SCORE}, 0.1),
    "map": lambda: figures.miscoverage_figure(SHARES, 0.1),
    "curve": lambda: figures.curve_figure(CURVE, 1.0, 0.1),
    "errors": lambda: figures.width_error_figure(np.linspace(0, 1, 999), np.linspace(0, 1, 999)),
    "pictures": lambda: figures.picture_risks_figure(np.array([0.0, 0.05, 0.3]), 0.1),
    "rungs": lambda: figures.rungs_figure([0.5, 0.9], [RungScore(0.4, None, 0.1)] * 2),
}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The matplotlib figures behind the PNGs."""
    kept: list[Any] = []
    png = figures._png

    def keep(draw: Callable[[Any], None], **rest: Any) -> bytes:
        def remember(figure: Any) -> None:
            kept.append(figure)
            draw(figure)

        return png(remember, **rest)

    monkeypatch.setattr(figures, "_png", keep)
    return kept


@pytest.mark.parametrize("draw", DRAWN.values(), ids=list(DRAWN))
def test_figures_are_pngs_the_same_each_time(draw: Callable[[], bytes]) -> None:
    first = draw()
    with Image.open(BytesIO(first)) as image:
        assert image.format == "PNG"
        assert 600 < image.width < 1000
    assert draw() == first


def test_bars_are_the_risks_and_reach_to_their_limits(drawn: list[Any]) -> None:
    figures.stratified_risk_figure({"raw": SCORE, "calibrated": SCORE}, 0.1)
    (axis,) = drawn[0].axes
    assert [bar.get_height() for bar in axis.patches] == [0.2, 0.1, 0.05] * 2
    ends = [tuple(segment[:, 1]) for segment in axis.collections[0].get_segments()]
    np.testing.assert_allclose(ends, [(0.15, 0.3), (0.1, 0.12), (0.0, 0.07)])
    assert axis.lines[-1].get_ydata()[0] == 0.1
    assert axis.get_ylim()[1] > 0.3


def test_map_marks_the_aim_and_leaves_what_does_not_count(drawn: list[Any]) -> None:
    figures.miscoverage_figure(SHARES, 0.1)
    image = drawn[0].axes[0].images[0]
    np.testing.assert_array_equal(image.get_array().filled(np.nan), SHARES)
    assert drawn[0].axes[1].lines[-1].get_ydata()[0] == 0.1


def test_curve_shows_risk_width_and_the_size(drawn: list[Any]) -> None:
    figures.curve_figure(CURVE, 1.0, 0.1)
    upper, lower = drawn[0].axes
    np.testing.assert_array_equal(upper.lines[0].get_ydata(), CURVE.risk)
    np.testing.assert_array_equal(lower.lines[0].get_ydata(), CURVE.width)
    for axis in (upper, lower):
        assert axis.lines[-1].get_xdata()[0] == 1.0


def test_all_pictures_are_counted_the_worst_too(drawn: list[Any]) -> None:
    risks = np.array([0.0, 0.0, 0.2, 1.0])
    figures.picture_risks_figure(risks, 0.1)
    (axis,) = drawn[0].axes
    assert sum(bar.get_height() for bar in axis.patches) == 4


def test_binned_quantiles_are_those_of_each_bin() -> None:
    rng = np.random.default_rng(0)
    x = rng.permutation(4000).astype(np.float32)
    y = (x * rng.random(4000)).astype(np.float32)
    centres, quantiles = figures.binned_quantiles(x, y, (0.5, 0.9))
    assert centres.shape == (20,)
    order = np.argsort(x).reshape(20, 200)
    np.testing.assert_allclose(centres, np.median(x[order], axis=1), atol=1)
    # One value at an edge may be in the next bin.
    np.testing.assert_allclose(quantiles[0], np.median(y[order], axis=1), rtol=0.05)
    np.testing.assert_allclose(quantiles[1], np.quantile(y[order], 0.9, axis=1), rtol=0.05)


def test_equal_widths_are_one_bin() -> None:
    x = np.array([0.1] * 3000 + [0.2] * 3000, np.float32)
    centres, quantiles = figures.binned_quantiles(x, x * 2, (0.5,))
    np.testing.assert_allclose(centres, [0.1, 0.2], rtol=1e-6)
    np.testing.assert_allclose(quantiles, [[0.2, 0.4]], rtol=1e-6)


def test_few_values_are_one_bin() -> None:
    centres, _ = figures.binned_quantiles(np.arange(9.0), np.arange(9.0), (0.5,))
    assert centres.tolist() == [4.0]
