"""Score restorations of true pictures and their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from certes import __version__
from certes.apps.cards import find_card
from certes.apps.console import progress
from certes.apps.experiment import Experiment, Trial, gathered
from certes.apps.measuring import plan_experiment
from certes.apps.options import Asked, SamplingOptions
from certes.apps.outputs import all_or_nothing, save_report
from certes.data.pictures import Picture
from certes.evaluation.metrics import psnr
from certes.evaluation.panels import restoration_panel
from certes.evaluation.report import ImageReport, Report
from certes.intervals.bounds import Bounds
from certes.intervals.cards import Calibration
from certes.intervals.metrics import evaluate

_PANELS = 4


@dataclass(frozen=True)
class Evaluation:
    """An experiment and the card that its intervals are judged with."""

    experiment: Experiment[Any]
    card: Calibration | None

    def run(self, pictures: Sequence[Picture], out: Path) -> dict[str, Any]:
        """Restore, score, draw panels of the first pictures; returns ``report.json``."""
        trials = list(self.experiment.run(pictures))
        raw, truth = gathered(trials)
        interval = raw if self.card is None else self.card(raw)
        scores = {
            "psnr_degraded": _psnr_degraded(trials),
            "raw": evaluate(raw, truth),
            "calibrated": None if self.card is None else evaluate(interval, truth),
        }
        shown = trials[:_PANELS]
        with progress("drawing panels", len(shown)) as advance:
            for trial in shown:
                self._draw(trial, out)
                advance(1)
        return save_report(out, self._report(trials, scores))

    def _calibrated(self, bounds: Bounds) -> Bounds:
        return bounds if self.card is None else self.card(bounds)

    def _draw(self, trial: Trial, out: Path) -> None:
        bounds = self._calibrated(trial.restoration.bounds)
        with all_or_nothing(out) as folder:
            restoration_panel(
                folder / f"{trial.name}.panel.png",
                trial.origin.seen(trial.y)[0],
                bounds,
                title=f"{trial.name}: {self.experiment.measuring.name}",
                truth=trial.truth[0],
                nominal=1 - self.experiment.restorer.alpha,
                guarantee=bounds.guarantee,
            )

    def _report(self, trials: Sequence[Trial], scores: dict[str, Any]) -> Report:
        experiment, card = self.experiment, self.card
        nominal = experiment.measuring.nominal
        return Report(
            version=__version__,
            model=experiment.restorer.model.name,
            task=experiment.measuring.name,
            noise=nominal.level,
            alpha=experiment.restorer.alpha,
            delta=None if card is None else card.delta,
            guarantee=None if card is None else card.guarantee,
            images=[self._image(trial) for trial in trials],
            settings={
                "operator": nominal.label,
                **experiment.restorer.settings(),
                "scores": scores,
            },
        )

    def _image(self, trial: Trial) -> ImageReport:
        bounds, truth = self._calibrated(trial.restoration.bounds), trial.truth
        return ImageReport(
            trial.name,
            mean_width=float(bounds.width.double().mean()),
            seconds=trial.restoration.seconds,
            nfe=trial.restoration.nfe,
            psnr=float(psnr(bounds.estimate, truth)),
            coverage=float(bounds.contains(truth).double().mean()),
        )


def evaluate_model(
    asked: Asked,
    sampling: SamplingOptions,
    card: Path | None,
    data: Path,
    crop: int,
    out: Path,
) -> dict[str, Any]:
    """Evaluate on the pictures in `data`; returns what is in ``report.json``.

    Raises: CertesError for senseless settings, a card that does not hold for them, or a picture
        that cannot be used.
    """
    experiment = plan_experiment(asked, sampling)
    wanted = experiment.restorer.provenance(experiment.measuring.nominal)
    found = find_card(card, sampling.model, wanted)
    return Evaluation(experiment, found).run(experiment.measuring.read(data, crop), out)


def _psnr_degraded(trials: Sequence[Trial]) -> float | None:
    """Of what was measured, at full size; None if it is perfect, or no picture."""
    values: list[torch.Tensor] = []
    for trial in trials:
        picture = trial.origin.degraded(trial.y)
        if picture is None:
            return None
        values.append(psnr(picture, trial.truth))
    mean = float(torch.cat(values).mean())
    return mean if mean < float("inf") else None
