"""Score restorations of true pictures and their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from certes import __version__
from certes.apps.cards import find_card
from certes.apps.console import progress
from certes.apps.experiment import Experiment, Trial, gathered, read_truths
from certes.apps.options import SamplingOptions, TaskOptions
from certes.apps.outputs import all_or_nothing, save_report, seen
from certes.apps.restorer import load_restorer
from certes.apps.tasks import make_task, noise_level
from certes.data.pictures import Picture
from certes.evaluation.metrics import psnr
from certes.evaluation.panels import restoration_panel
from certes.evaluation.report import ImageReport, Report
from certes.intervals.bounds import Bounds
from certes.intervals.cards import Calibration
from certes.intervals.metrics import evaluate
from certes.restoration.operators import LinearOperator

_PANELS = 4


@dataclass(frozen=True)
class Evaluation:
    """An experiment and the card that its intervals are judged with."""

    experiment: Experiment
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
                seen(trial.y, trial.operator)[0],
                bounds,
                title=f"{trial.name}: {self.experiment.task.name}",
                truth=trial.truth[0],
                nominal=1 - self.experiment.restorer.alpha,
                guarantee=bounds.guarantee,
            )

    def _report(self, trials: Sequence[Trial], scores: dict[str, Any]) -> Report:
        experiment, card = self.experiment, self.card
        return Report(
            version=__version__,
            model=experiment.restorer.model.name,
            task=experiment.task.name,
            noise=experiment.noise,
            alpha=experiment.restorer.alpha,
            delta=None if card is None else card.delta,
            guarantee=None if card is None else card.guarantee,
            images=[self._image(trial) for trial in trials],
            settings={
                "operator": experiment.task.label,
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
    task: TaskOptions,
    noise: float | None,
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
    made = make_task(task, sampling.seed)
    level = noise_level(made, noise)
    pictures = read_truths(data, crop)
    restorer = load_restorer(sampling)
    wanted = restorer.provenance(made.operator(made.nominal, 0), level)
    found = find_card(card, sampling.model, wanted)
    return Evaluation(Experiment(made, level, restorer, sampling.seed), found).run(pictures, out)


def _psnr_degraded(trials: Sequence[Trial]) -> float | None:
    """Of what was measured, brought to full size where it is smaller; None if it is perfect."""
    mean = float(torch.cat([psnr(_full_size(t), t.truth) for t in trials]).mean())
    return mean if mean < float("inf") else None


def _full_size(trial: Trial) -> Float[Tensor, "1 c h w"]:
    H = trial.operator
    if trial.y.shape != trial.truth.shape and isinstance(H, LinearOperator):
        return H.pinv(trial.y)
    return trial.y
