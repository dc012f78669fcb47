"""Calibration: raw bounds and true pictures in, a card with the guarantee out.

Sources: Angelopoulos et al. 2022 (im2im-uq) and Horwitz and Hoshen 2022 (Conffusion), but with
images or groups of images as units, an exact lambda, and rules whose proofs apply.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from datetime import UTC, datetime
from importlib import metadata

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from certes.errors import InputError
from certes.intervals.bounds import Bounds
from certes.intervals.cards import Calibration, check_raw
from certes.intervals.critical import CriticalValues
from certes.intervals.families import family_named
from certes.intervals.rules import certify


def calibrate(
    bounds: Bounds,
    truth: Float[Tensor, "b c h w"],
    *,
    alpha: float = 0.1,
    delta: float = 0.1,
    rule: str = "wsr",
    family: str = "scale",
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> Calibration:
    """Find the smallest interval size whose risk is certified to be at most alpha.

    Args:
        bounds: raw bounds of the calibration images, (B, C, H, W). These images must not have
            served to train or to choose what made the bounds: selection voids the guarantee.
        truth: the true pictures, values in [0, 1].
        alpha: largest risk: expected share of pixels that the intervals miss.
        delta: probability with which the certificate may be wrong.
        rule: ``wsr`` (betting, narrowest) or ``hb`` (Hoeffding-Bentkus, free of any order).
        family: ``scale`` (stretch about the estimate) or ``additive``.
        groups: one label per image, where images are not independent (slices of a patient, crops
            of a field of view). The unit is then the group, its loss the mean over its images, so
            small groups count as much as large ones.
        seed: of the random order in which the rule sees the units; kept on the card.

    Raises: InputError for arguments that do not fit; CalibrationError when alpha cannot be
        certified with so few units (it names the number that would do).
    """
    check_raw(bounds)
    images = len(truth)
    critical = family_named(family).critical(bounds, truth).reshape(images, -1)
    units = CriticalValues(critical, _unit_numbers(groups, images))
    size = certify(units.shuffled(seed), rule, alpha, delta)
    return Calibration(
        alpha=alpha,
        delta=delta,
        rule=rule,
        family=family,
        size=size,
        n=units.n,
        images=images,
        grouped=groups is not None,
        seed=seed,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        version=_version(),
        provenance=bounds.provenance,
    )


def _unit_numbers(groups: Sequence[Hashable] | None, images: int) -> Int[ndarray, " b"]:
    if groups is None:
        return np.arange(images)
    if len(groups) != images:
        raise InputError(
            f"groups: one label per image is wanted, {len(groups)} for {images} images"
        )
    numbers = {label: i for i, label in enumerate(dict.fromkeys(groups))}
    return np.array([numbers[label] for label in groups])


def _version() -> str:
    try:
        return metadata.version("certes")
    except metadata.PackageNotFoundError:  # run from a source tree
        return "not installed"
