"""What was found out about intervals on true pictures: scores, and figures that show them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64
from numpy import ndarray
from torch import Tensor

from certes.evaluation.interval_figures import (
    curve_figure,
    miscoverage_figure,
    picture_risks_figure,
    rungs_figure,
    stratified_risk_figure,
    width_error_figure,
)
from certes.intervals.bounds import Bounds
from certes.intervals.cards import Calibration
from certes.intervals.counted import Counted, missed
from certes.intervals.curves import RiskCurve, risk_curve, rung_coverages, rung_scores
from certes.intervals.metrics import evaluate
from certes.intervals.miscoverage import miscoverage_map
from certes.intervals.probability import clopper_pearson

RAW_FAMILY, RAW_SIZE = "scale", 1.0
"""Raw bounds are, very narrow ones aside, the intervals of this family and size."""


@dataclass(frozen=True)
class Figure:
    """A figure of a page.

    Args:
        title: what it is, also for those who cannot see it.
        png: the picture.
        reading: one sentence on how to read it.
    """

    title: str
    png: bytes
    reading: str


@dataclass(frozen=True, eq=False)
class Findings:
    """Raw bounds and true pictures of one size, and the card that calibrates them, if any.

    Args:
        raw: bounds as the model made them, (B, C, H, W).
        truth: the true pictures, same shape.
        card: the calibration; ``None`` judges the raw bounds.
        alpha: the risk that the raw bounds aimed at.
        counted: which pixels count, (B, C or 1, H, W); by default all.
    """

    raw: Bounds
    truth: Float[Tensor, "b c h w"]
    card: Calibration | None
    alpha: float
    counted: Bool[Tensor, "b c h w"] | None = None

    @cached_property
    def interval(self) -> Bounds:
        """The calibrated intervals; the raw bounds without a card.

        Raises: CalibrationError when the card does not hold for these bounds.
        """
        return self.raw if self.card is None else self.card(self.raw)

    def of(self, i: int) -> Bounds:
        """The interval of picture i."""
        planes = (self.interval.lower, self.interval.estimate, self.interval.upper)
        lower, estimate, upper = (plane[i : i + 1] for plane in planes)
        return replace(self.interval, lower=lower, estimate=estimate, upper=upper, rungs=None)

    @cached_property
    def scores(self) -> dict[str, Any]:
        """JSON: ``raw`` and ``calibrated`` as `certes.evaluate` says, ``image_risk``, ``curve``.

        ``image_risk``, for cards that promise something of single images, is the share of images
        that miss more than the card's tolerance, with its 95 % Clopper-Pearson interval. ``curve``
        says what risk and mean width other sizes of the family would have had.
        """
        calibrated = None if self.card is None else self._evaluated(self.interval)
        return {
            "raw": self._evaluated(self.raw),
            "calibrated": calibrated,
            "image_risk": self._image_risk(),
            "curve": {
                "family": self._family,
                "size": self._size,
                "sizes": self.curve.sizes.tolist(),
                "risk": self.curve.risk.tolist(),
                "risk_interval": None if self.curve.limits is None else self.curve.limits.tolist(),
                "width": self.curve.width.tolist(),
            },
        }

    @cached_property
    def curve(self) -> RiskCurve:
        """Risk and width of other sizes of the card's family."""
        return risk_curve(
            self.raw,
            self.truth,
            family=self._family,
            shape=None if self.card is None else self.card.shape,
            include=(self._size,),
            counted=self.counted,
        )

    @cached_property
    def risks(self) -> Float64[ndarray, " b"]:
        """Share of missed pixels in every picture."""
        return np.array([misses.mean() for misses in self._pictures.values(missed)])

    def figures(self) -> Iterator[Figure]:
        """The figures, one after the other: each takes about half a second to draw."""
        judged = {name: self.scores[name] for name in ("raw", "calibrated") if self.scores[name]}
        yield Figure(
            "Missed pixels by interval width",
            stratified_risk_figure(judged, self._aim),
            "Bars of equal height mean that narrow intervals can be trusted as much as wide ones; "
            "a tall bar marks intervals that are too sure of themselves.",
        )
        yield Figure(
            "Missed pixels, picture by picture",
            picture_risks_figure(self.risks, self._aim),
            "What is aimed at is the mean over pictures, so single pictures may lie to the right "
            "of the dashed line; the further they reach, the more pictures differ.",
        )
        yield Figure(
            "Risk and width against the interval size",
            curve_figure(self.curve, self._size, self._aim),
            "Follow the curves to see what fewer misses would have cost in width, or what narrower "
            "intervals would have missed, on these pictures.",
        )
        yield Figure(
            "Errors against interval width",
            self._width_error(),
            "Curves that rise mean that the width tells where errors are; the upper one near the "
            "dashed line means that it tells how large they are.",
        )
        yield Figure(
            "Missed pixels by place",
            miscoverage_figure(miscoverage_map(self.interval, self.truth, self.counted), self._aim),
            "Speckle is chance; dark corners, edges or blobs are places where intervals miss "
            "more often than elsewhere.",
        )
        yield from self._rungs()

    @property
    def _family(self) -> str:
        return RAW_FAMILY if self.card is None else self.card.family

    @property
    def _size(self) -> float:
        return RAW_SIZE if self.card is None else self.card.size

    @property
    def _pictures(self) -> Counted:
        return Counted.of(self.interval, self.truth, self.counted)

    @property
    def _aim(self) -> float:
        """The share of missed pixels that figures mark."""
        if self.card is None:
            return self.alpha
        return self.card.alpha if self.card.tolerance is None else self.card.tolerance

    def _image_risk(self) -> dict[str, Any] | None:
        if self.card is None or self.card.tolerance is None:
            return None
        images, tolerance = len(self.risks), self.card.tolerance
        worse = int((self.risks > tolerance).sum())
        return {
            "tolerance": tolerance,
            "images": images,
            "share": worse / images,
            "interval": clopper_pearson(worse, images),
        }

    def _evaluated(self, bounds: Bounds) -> dict[str, Any]:
        return evaluate(bounds, self.truth, counted=self.counted)

    def _width_error(self) -> bytes:
        widths = self._pictures.values(lambda bounds, _: bounds.width)
        errors = self._pictures.values(lambda bounds, truth: (bounds.estimate - truth).abs())
        return width_error_figure(np.concatenate(widths), np.concatenate(errors))

    def _rungs(self) -> Iterator[Figure]:
        made = self.raw.provenance
        if self.raw.rungs is None or made is None or made.samples is None:
            return
        scores = rung_scores(self.raw, self.truth, counted=self.counted)
        yield Figure(
            "Coverage of nested raw intervals",
            rungs_figure(rung_coverages(made.samples), scores),
            "On the dashed line the model's own uncertainty is right; below it the model is too "
            "sure of itself, which the calibration makes up for.",
        )
