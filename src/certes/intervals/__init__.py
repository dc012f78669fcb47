"""Intervals that keep their word.

Conffusion (Horwitz and Hoshen 2022) turns the output of a diffusion model into an interval for
every pixel and calibrates it with risk-controlling prediction sets (Bates et al. 2021;
Angelopoulos et al. 2022). This room holds that calibration with the guarantee made valid (units
are images, not pixels) and exact (no grid of interval sizes):

    bounds.py         Bounds, and the Provenance that a calibration checks
    posterior.py      samples, or what was kept of them
    quantiles.py      bounds from stored samples
    streaming.py      moments and quantiles of samples that are not stored
    families.py       nested families of intervals: scale, additive, ratio, std, level
    shapes.py         lambdas that differ by side or by width; found by sides.py and strata.py, on
                      parts.py of the data
    critical.py       critical values of pixels, exact or in histograms; losses of units
    tally.py          critical values gathered in one pass, merged, saved
    rules/            wsr (betting), hb, hoeffding, bernstein; crc, image (conformal)
    calibration.py    calibrate, calibrate_stream
    cards.py          Calibration, the card that it makes
    regions.py        an alpha and a lambda for each region of a label map
    answers.py        intervals for what is measured in pictures (measures.py), by split conformal
    shift.py          do new pictures look like those of the calibration?
    metrics.py        evaluate: risk, width, strata, on the pixels that count (counted.py), with
                      intervals over images (resampling.py)
    ranks.py, miscoverage.py, curves.py
                      width against error; where misses lie; risk against lambda
    probability.py    binomial and normal probabilities
    populations.py    synthetic images with known risk
    procedures.py, experiments.py, verification.py
                      does the guarantee hold? on synthetic data with known risk, on held-out data

What makes the bounds (operators, samplers, networks) is handed in, never imported.
"""

from certes.intervals.bounds import Bounds, Provenance
from certes.intervals.calibration import calibrate, calibrate_stream
from certes.intervals.cards import Calibration
from certes.intervals.curves import risk_curve
from certes.intervals.metrics import evaluate
from certes.intervals.miscoverage import miscoverage_map
from certes.intervals.quantiles import (
    corrected_probabilities,
    nominal_coverage,
    sample_bounds,
)
from certes.intervals.regions import RegionCalibration, calibrate_regions
from certes.intervals.shapes import Sides, Strata
from certes.intervals.streaming import StreamingMoments, StreamingQuantiles
from certes.intervals.tally import Tally
from certes.intervals.verification import HeldOut, Row, verify_card, verify_synthetic

__all__ = [
    "Bounds",
    "Calibration",
    "HeldOut",
    "Provenance",
    "RegionCalibration",
    "Row",
    "Sides",
    "Strata",
    "StreamingMoments",
    "StreamingQuantiles",
    "Tally",
    "calibrate",
    "calibrate_regions",
    "calibrate_stream",
    "corrected_probabilities",
    "evaluate",
    "miscoverage_map",
    "nominal_coverage",
    "risk_curve",
    "sample_bounds",
    "verify_card",
    "verify_synthetic",
]
