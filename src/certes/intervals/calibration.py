"""Calibration: raw bounds and true pictures in, a card with the guarantee out.

Sources: Angelopoulos et al. 2022 (im2im-uq) and Horwitz and Hoshen 2022 (Conffusion), but with
images or groups of images as units, an exact lambda, and rules whose proofs apply.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor

from certes.errors import InputError
from certes.intervals.bounds import Bounds
from certes.intervals.cards import Calibration
from certes.intervals.shapes import Shape, Sides, Strata
from certes.intervals.sides import calibrate_sides
from certes.intervals.strata import calibrate_strata
from certes.intervals.tally import MEMORY, Label, Tally

Batch = tuple[Bounds, Tensor] | tuple[Bounds, Tensor, Tensor | None]


def calibrate(
    bounds: Bounds,
    truth: Float[Tensor, "b c h w"],
    *,
    alpha: float = 0.1,
    delta: float = 0.1,
    rule: str = "wsr",
    family: str = "scale",
    groups: Sequence[Label] | None = None,
    counted: Bool[Tensor, "b c h w"] | None = None,
    shape: Shape | str | None = None,
    tolerance: float = 0.1,
    seed: int = 0,
) -> Calibration:
    """Find the smallest interval size whose risk is certified to be at most alpha.

    For pictures that come in batches, are of several sizes or on several workers, see
    `calibrate_stream` and `Tally`.

    Args:
        bounds: raw bounds of the calibration images, (B, C, H, W). These images must not have
            served to train or to choose what made the bounds: selection voids the guarantee.
        truth: the true pictures, values in [0, 1].
        alpha: largest risk: expected share of pixels that the intervals miss.
        delta: probability with which the certificate may be wrong; rules that promise an average
            over calibrations do not use it.
        rule: ``wsr`` (betting, narrowest) or another of `certes.intervals.rules`.
        family: ``scale`` (stretch about the estimate) or another of `certes.intervals.families`.
        groups: one label per image, a string or a whole number, where images are not independent
            (slices of a patient, crops of a field of view). The unit is then the group, its loss
            the mean over its images, so small groups count as much as large ones.
        counted: bool (B, C or 1, H, W): only these pixels count, for example the hole of an
            inpainting; an image's loss is its missed share of them. By default all count.
        shape: weights of lambda by side and part of the picture, see `certes.intervals.shapes`;
            or the name of a way to find them here and now, without loss of the guarantee:
            ``sides`` (`certes.intervals.sides`) or ``strata`` (`certes.intervals.strata`).
        tolerance: for the rule ``image``: share of an image's pixels that may be missed.
        seed: of the random order in which the rule sees the units; kept on the card. The order of
            the images given does not matter.

    Raises: InputError for arguments that do not fit; CalibrationError when alpha cannot be
        certified with so few units (it names the number that would do).
    """
    common: dict[str, Any] = {"alpha": alpha, "delta": delta, "rule": rule, "seed": seed}
    pictures: dict[str, Any] = {"family": family, "groups": groups, "counted": counted}
    if shape == Sides.name:
        return calibrate_sides(bounds, truth, **common, **pictures)
    if shape == Strata.name:
        return calibrate_strata(bounds, truth, **common, **pictures, tolerance=tolerance)
    if isinstance(shape, str):
        raise InputError(
            f"shape: {shape!r} is unknown, known are {Sides.name}, {Strata.name}, and a Shape"
        )
    tally = Tally(family, shape=shape, memory=4 * truth.numel()).add(bounds, truth, counted, groups)
    return tally.calibrate(**common, tolerance=tolerance)


def calibrate_stream(
    batches: Iterable[Batch],
    *,
    alpha: float = 0.1,
    delta: float = 0.1,
    rule: str = "wsr",
    family: str = "scale",
    shape: Shape | None = None,
    tolerance: float = 0.1,
    seed: int = 0,
    memory: int = MEMORY,
) -> Calibration:
    """Calibrate in one pass over batches, in memory that hardly grows with their number.

    Args:
        batches: ``(bounds, truth)`` or ``(bounds, truth, counted)``, see `calibrate`; pictures may
            differ in size between batches. For groups, add the batches to a `Tally`.
        memory: bytes up to which everything is exact; beyond, lambda is rounded up, by at most
            0.8 %.
        alpha, delta, rule, family, shape, tolerance, seed: see `calibrate`.

    Raises: as `calibrate`.
    """
    tally = Tally(family, shape=shape, memory=memory)
    for batch in batches:
        tally.add(batch[0], batch[1], batch[2] if len(batch) == 3 else None)
    return tally.calibrate(alpha=alpha, delta=delta, rule=rule, tolerance=tolerance, seed=seed)
