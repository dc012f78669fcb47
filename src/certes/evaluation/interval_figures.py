"""Figures about intervals, as PNGs that go into a page: small, so that a phone can show them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import Any, cast

import numpy as np
from jaxtyping import Float, Float64
from numpy import ndarray

from certes.evaluation.panels import ACCENT, INK, STYLE, TRUTH, Axes, Figure, bare
from certes.intervals.curves import RiskCurve, RungScore

PALE = "#9cc3de"
_WIDTH, _HEIGHT = 5.2, 3.5  # inches
_DPI = 160
_MOST_BINS = 20
_LEAST_IN_BIN = 200  # values, for a 90th percentile that can be told
_STRATA = ("narrowest\nquarter", "second", "third", "widest\nquarter")
_COLOURS = {"raw": PALE, "calibrated": ACCENT}

Limits = tuple[float, float] | None


def stratified_risk_figure(scores: Mapping[str, Mapping[str, Any]], alpha: float) -> bytes:
    """Risk for each quarter of the pixels by width, as Horwitz and Hoshen 2022 show it.

    Args:
        scores: by name of the intervals (raw, calibrated) what `certes.evaluate` says of them.
        alpha: the risk that was aimed at.
    """

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        breadth = 0.8 / len(scores)
        for i, (name, score) in enumerate(scores.items()):
            at = np.arange(4) + breadth * (i - (len(scores) - 1) / 2)
            risks, limits = score["stratified_risk"], score["stratified_risk_interval"]
            _bars(axis, at, risks, limits, width=0.92 * breadth, color=_COLOURS[name], label=name)
        axis.set_xticks(range(4), _STRATA, color=INK)
        _per_cent(axis, "y")
        axis.set_ylabel("missed pixels")
        axis.set_title("Missed pixels where intervals are narrow or wide")
        top = axis.get_ylim()[1]
        axis.axhline(alpha, color=TRUTH, lw=1.2, ls="--", label=f"aimed at: {100 * alpha:g} %")
        axis.set_ylim(0, max(top, 1.05 * alpha) * 1.22)
        _legend(axis, ncols=3, loc="upper center")
        bare(axis)

    return _png(draw)


def miscoverage_figure(shares: Float64[ndarray, "h w"], alpha: float) -> bytes:
    """The share of pictures that miss at each place: the darker, the more of them.

    Args:
        shares: of `certes.intervals.miscoverage.miscoverage_map`, NaN where nothing counts.
        alpha: the risk that was aimed at.
    """

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        top = max(float(np.nanquantile(shares, 0.999)), 1.5 * alpha)
        axis.set_facecolor("#d9d9d9")
        image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=top, interpolation="nearest")
        bar = figure.colorbar(image, ax=axis, shrink=0.9, extend="max", label="pictures that miss")
        bar.ax.axhline(alpha, color=TRUTH, lw=1.6)
        labels = ("0 %", f"aimed at:\n{_percent(alpha)}", _percent(top))
        bar.set_ticks([0, alpha, top], labels=labels)
        axis.set_title("Where in the picture intervals miss")
        axis.set_xticks([])
        axis.set_yticks([])

    return _png(draw)


def curve_figure(curve: RiskCurve, size: float, alpha: float) -> bytes:
    """Risk and mean width against the interval size, that of the intervals judged marked.

    Args:
        curve: of the raw intervals, in the card's family.
        size: lambda of the intervals that are judged.
        alpha: the risk that was aimed at.
    """

    def draw(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[1.3, 1])
        if curve.limits is not None:
            upper.fill_between(curve.sizes, *curve.limits.T, color=ACCENT, alpha=0.22, lw=0)
        upper.plot(curve.sizes, curve.risk, color=ACCENT, lw=1.6)
        upper.axhline(alpha, color=TRUTH, lw=1.2, ls="--", label=f"aimed at: {100 * alpha:g} %")
        lower.plot(curve.sizes, curve.width, color=ACCENT, lw=1.6)
        for axis in (upper, lower):
            axis.axvline(size, color=INK, lw=1, ls=":", label=f"these intervals: λ = {size:.3g}")
            axis.set_ylim(bottom=0)
            axis.margins(x=0)
            bare(axis)
        _per_cent(upper, "y")
        upper.set_ylabel("missed pixels")
        upper.set_title("Had the intervals been smaller or larger")
        _legend(upper, loc="upper right")
        lower.set_ylabel("mean width")
        lower.set_xlabel("interval size λ")

    return _png(draw, height=4.4)


def width_error_figure(width: Float[ndarray, " m"], error: Float[ndarray, " m"]) -> bytes:
    """Errors of the estimate, in bins of equally many pixels by interval width.

    Args:
        width: of pixels, image units.
        error: absolute errors of the same pixels.
    """
    centres, quantiles = binned_quantiles(width, error, (0.5, 0.9))

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        median, high = quantiles
        axis.plot(centres, centres / 2, color=TRUTH, lw=1.2, ls="--", label="half of the width")
        axis.plot(centres, high, "o-", color=ACCENT, ms=3.5, lw=1.4, label="9 of 10 errors below")
        axis.plot(centres, median, "o-", color=PALE, ms=3.5, lw=1.4, label="half of the errors")
        axis.set_xlabel("interval width, image units")
        axis.set_ylabel("error, image units")
        axis.set_title("Are errors large where intervals are wide?")
        axis.set_xlim(left=0)
        axis.set_ylim(bottom=0)
        _legend(axis, loc="upper left")
        bare(axis)

    return _png(draw)


def binned_quantiles(
    x: Float[ndarray, " m"], y: Float[ndarray, " m"], levels: Sequence[float]
) -> tuple[Float64[ndarray, " k"], Float64[ndarray, "levels k"]]:
    """Quantiles of y in at most 20 bins of equally many values by x, and the bins' median x.

    Equal x fall into one bin, so there may be fewer.
    """
    bins = int(np.clip(len(x) // _LEAST_IN_BIN, 1, _MOST_BINS))
    edges = np.quantile(x, np.arange(1, bins) / bins)
    of = np.searchsorted(edges, x)
    parts = [of == i for i in np.unique(of)]
    centres = np.array([np.median(x[part]) for part in parts], np.float64)
    return centres, np.stack([np.quantile(y[part], levels) for part in parts], axis=1)


def picture_risks_figure(risks: Float64[ndarray, " n"], alpha: float) -> bytes:
    """How many pictures miss how many of their pixels.

    Args:
        risks: share of missed pixels of each picture.
        alpha: the risk that was aimed at, a mean over pictures.
    """

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        top = max(float(risks.max()), 1.5 * alpha)
        axis.hist(risks, np.linspace(0, top, 21), color=PALE, edgecolor="white", lw=0.6)
        mean = float(risks.mean())
        axis.axvline(mean, color=ACCENT, lw=1.6, label=f"mean: {100 * mean:.1f} %")
        axis.axvline(alpha, color=TRUTH, lw=1.2, ls="--", label=f"aimed at: {100 * alpha:g} %")
        _per_cent(axis, "x")
        axis.set_xlim(0, top)
        axis.set_xlabel("missed pixels of a picture")
        axis.set_ylabel("pictures")
        axis.yaxis.get_major_locator().set_params(integer=True)
        axis.set_title("Missed pixels, picture by picture")
        axis.set_ylim(top=axis.get_ylim()[1] * 1.12)
        _legend(axis, loc="upper right")
        bare(axis)

    return _png(draw)


def rungs_figure(nominal: Sequence[float], scores: Sequence[RungScore]) -> bytes:
    """Coverage of nested raw intervals against what each of them aims at.

    Args:
        nominal: coverage that each rung aims at, innermost first.
        scores: of `certes.intervals.curves.rung_scores`.
    """

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        coverage = [score.coverage for score in scores]
        axis.plot([0, 1], [0, 1], color=TRUTH, lw=1.2, ls="--", label="as it says")
        limits: list[Limits] = [score.interval for score in scores]
        axis.errorbar(
            nominal, coverage, _reach(coverage, limits), color=ACCENT, marker="o", ms=4, lw=1.4,
            capsize=3, label="these pictures",
        )  # fmt: skip
        for side in ("x", "y"):
            _per_cent(axis, side)
        axis.set_xlim(0, 1)
        axis.set_ylim(0, 1.02)
        axis.set_xlabel("coverage that the raw interval aims at")
        axis.set_ylabel("truth inside")
        axis.set_title("Do the raw intervals keep what they say?")
        _legend(axis, loc="upper left")
        bare(axis)

    return _png(draw)


def _bars(
    axis: Axes,
    at: Float64[ndarray, " k"],
    heights: Sequence[float | None],
    limits: Sequence[Limits],
    **style: Any,
) -> None:
    """Bars with error bars; strata without pixels are left out."""
    kept = [i for i, height in enumerate(heights) if height is not None]
    shown = [cast(float, heights[i]) for i in kept]
    reach = _reach(shown, [limits[i] for i in kept])
    axis.bar(at[kept], shown, yerr=reach, error_kw={"ecolor": INK, "lw": 1, "capsize": 3}, **style)


def _reach(values: Sequence[float], limits: Sequence[Limits]) -> Float64[ndarray, "2 k"]:
    """How far each interval reaches below and above its value; nowhere without an interval."""
    ends = [(v, v) if limit is None else limit for v, limit in zip(values, limits, strict=True)]
    low, high = np.array(ends).reshape(-1, 2).T
    return np.maximum(np.stack([values - low, high - values]), 0)


def _legend(axis: Axes, **where: Any) -> None:
    axis.legend(frameon=False, fontsize=8.5, handlelength=1.6, columnspacing=1.2, **where)


def _per_cent(axis: Axes, side: str) -> None:
    scale = axis.xaxis if side == "x" else axis.yaxis

    def written(share: float, _: int) -> str:
        return _percent(share)

    scale.set_major_formatter(written)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _png(draw: Callable[[Figure], None], height: float = _HEIGHT) -> bytes:
    import matplotlib.figure

    with cast(Any, matplotlib).rc_context(STYLE):
        figure: Figure = matplotlib.figure.Figure((_WIDTH, height), _DPI, layout="constrained")
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
        draw(figure)
        stream = BytesIO()
        # Without the version of matplotlib in it, so that equal figures are equal files.
        figure.savefig(stream, format="png", metadata={"Software": None})
        return stream.getvalue()
