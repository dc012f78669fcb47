"""Make a calibration card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from certes.apps.experiment import gathered
from certes.apps.measuring import plan_experiment
from certes.apps.options import Asked, SamplingOptions
from certes.errors import InputError
from certes.intervals.bounds import Bounds
from certes.intervals.calibration import calibrate
from certes.intervals.cards import Calibration


@dataclass(frozen=True)
class CardOptions:
    """What the guarantee is to be, besides alpha."""

    delta: float
    rule: str
    family: str


def calibrate_model(
    asked: Asked,
    sampling: SamplingOptions,
    card: CardOptions,
    data: Path,
    crop: int,
    out: Path,
) -> Calibration:
    """Measure and restore every picture in `data`, calibrate, save the card.

    Raises: CertesError for senseless settings, a picture that cannot be used (all must be: leaving
        some out would be a choice), or too few pictures.
    """
    if out.is_dir():
        raise InputError(
            f"out: {out} is a folder; give the name of the card to write, as card.json"
        )
    experiment = plan_experiment(asked, sampling)
    pictures = experiment.measuring.read(data, crop)
    _rehearse(len(pictures), sampling, card)
    trials = list(experiment.run(pictures))
    bounds, truth = gathered(trials)
    groups = [i for i, trial in enumerate(trials) for _ in trial.truth]
    result = calibrate(
        bounds,
        truth,
        alpha=sampling.alpha,
        delta=card.delta,
        rule=card.rule,
        family=card.family,
        groups=groups if len(groups) > len(trials) else None,
        seed=sampling.seed,
    )
    result.save(out)
    return result


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
    )
