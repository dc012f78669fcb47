"""Make a calibration card, at once or in parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from certes.apps.experiment import Experiment, gathered
from certes.apps.measuring import plan_experiment
from certes.apps.novelty import check_calibration_pictures, note_unknown_training
from certes.apps.options import Asked, SamplingOptions
from certes.data.pictures import Picture
from certes.errors import InputError
from certes.intervals.bounds import Bounds
from certes.intervals.calibration import calibrate
from certes.intervals.cards import Calibration
from certes.intervals.tally import Tally


@dataclass(frozen=True)
class CardOptions:
    """What the guarantee is to be, besides alpha; see `certes.calibrate`."""

    delta: float
    rule: str
    family: str
    shape: str | None
    tolerance: float
    partial: bool


@dataclass(frozen=True)
class Hands:
    """Who measures, besides this process; see `certes.apps.batch.calibrating.tallied`."""

    workers: int
    address: str | None


def calibrate_model(
    asked: Asked,
    sampling: SamplingOptions,
    card: CardOptions,
    data: Path,
    crop: int,
    out: Path,
    hands: Hands | None = None,
) -> Calibration | Tally:
    """Measure and restore every picture in `data`, calibrate, save the card (or the part of one).

    Raises: CertesError for senseless settings, a picture that cannot be used (all must be: leaving
        some out would be a choice) or that the model knows, or too few pictures.
    """
    if out.is_dir():
        raise InputError(
            f"out: {out} is a folder; give the name of the card to write, as card.json"
        )
    if card.shape is not None and (card.partial or hands is not None):
        apart = "--partial" if card.partial else "--workers and --address"
        raise InputError(f"shape: {card.shape} needs all pictures at once; leave out {apart}")
    experiment = plan_experiment(asked, sampling)
    pictures = experiment.measuring.read(data, crop)
    if not card.partial:
        _rehearse(len(pictures), sampling, card)
    check_calibration_pictures(experiment, pictures, sampling.model)
    made = _made(experiment, pictures, asked, sampling, card, hands)
    made.save(out)
    note_unknown_training(sampling.model)
    return made


def merge_parts(
    parts: Sequence[Path],
    out: Path,
    alpha: float,
    delta: float,
    rule: str,
    tolerance: float,
    seed: int,
) -> Calibration:
    """Calibrate what several runs have measured.

    Raises: CalibrationError for a file that is no part, parts that do not belong together, share
        a picture, or are too few pictures together.
    """
    first, *others = (Tally.load(part) for part in parts)
    for other in others:
        first.merge(other)
    card = first.calibrate(alpha=alpha, delta=delta, rule=rule, tolerance=tolerance, seed=seed)
    twice = [sketch for sketch, times in Counter(card.sketches).items() if times > 1]
    if twice:
        raise InputError(
            f"parts: {len(twice)} picture(s) were measured more than once; a calibration counts "
            "each picture once, so give every part pictures of its own"
        )
    card.save(out)
    return card


def _made(
    experiment: Experiment[Any],
    pictures: Sequence[Picture],
    asked: Asked,
    sampling: SamplingOptions,
    card: CardOptions,
    hands: Hands | None,
) -> Calibration | Tally:
    if card.shape is not None:
        return _shaped(experiment, pictures, sampling, card)
    if hands is None:
        tally = Tally(card.family)
        for trial in experiment.run(pictures):
            tally.add(trial.restoration.bounds, trial.truth)
    else:
        from certes.apps.batch.calibrating import tallied

        tally = tallied(pictures, asked, sampling, card.family, hands.workers, hands.address)
    if card.partial:
        return tally
    return tally.calibrate(
        alpha=sampling.alpha,
        delta=card.delta,
        rule=card.rule,
        tolerance=card.tolerance,
        seed=sampling.seed,
    )


def _shaped(
    experiment: Experiment[Any],
    pictures: Sequence[Picture],
    sampling: SamplingOptions,
    card: CardOptions,
) -> Calibration:
    """With lambdas that differ, which must see all pictures at once."""
    return calibrate(
        *gathered(list(experiment.run(pictures))),
        alpha=sampling.alpha,
        delta=card.delta,
        rule=card.rule,
        family=card.family,
        shape=card.shape,
        tolerance=card.tolerance,
        seed=sampling.seed,
    )


def _rehearse(count: int, sampling: SamplingOptions, card: CardOptions) -> None:
    """Calibrate that many perfect pixels: what cannot be certified even then, never can be."""
    low, pixel, high = (torch.full((count, 1, 1, 1), value) for value in (0.0, 0.5, 1.0))
    calibrate(
        Bounds(low, pixel, high),
        pixel,
        alpha=sampling.alpha,
        delta=card.delta,
        rule=card.rule,
        family=card.family,
        shape=card.shape,
        tolerance=card.tolerance,
    )
