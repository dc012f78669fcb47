"""Score restorations of true pictures and their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from certes import __version__
from certes.apps.cards import find_card
from certes.apps.console import progress
from certes.apps.experiment import Experiment, Trial, gathered
from certes.apps.measuring import plan_experiment
from certes.apps.novelty import warn_of_known_pictures
from certes.apps.options import Asked, SamplingOptions
from certes.apps.outputs import all_or_nothing, save_report
from certes.data.files import write_text
from certes.data.pictures import Picture
from certes.evaluation.findings import Figure, Findings
from certes.evaluation.metrics import psnr
from certes.evaluation.page import report_page
from certes.evaluation.panels import restoration_panel
from certes.evaluation.report import ImageReport, Report
from certes.intervals.bounds import Bounds
from certes.intervals.cards import Calibration

PAGE = "report.html"

_PANELS = 4
_FIGURES = 5  # of what is found, at least
_TOLD = (
    *("alpha", "delta", "tolerance", "rule", "family", "lambda", "shape", "n", "images"),
    *("grouped", "counted", "exact", "seed", "date", "version"),
)


@dataclass(frozen=True)
class Evaluation:
    """An experiment and the card that its intervals are judged with."""

    experiment: Experiment[Any]
    card: Calibration | None

    def run(self, pictures: Sequence[Picture], out: Path) -> dict[str, Any]:
        """Restore, score, draw; writes ``report.html``, returns ``report.json``."""
        trials = list(self.experiment.run(pictures))
        findings = Findings(*gathered(trials), self.card, self.experiment.restorer.alpha)
        report = save_report(out, self._report(trials, findings))
        shown = range(min(_PANELS, len(trials)))
        with progress("drawing", len(shown) + _FIGURES) as advance:
            panels: list[Figure] = []
            for i in shown:
                panels.append(self._panel(trials[i], findings.of(i), out))
                advance(1)
            figures: list[Figure] = []
            for figure in findings.figures():
                figures.append(figure)
                advance(1)
        write_text(out / PAGE, report_page(report, figures, panels))
        return report

    def _panel(self, trial: Trial, bounds: Bounds, out: Path) -> Figure:
        name = f"{trial.name}.panel.png"
        with all_or_nothing(out) as folder:
            restoration_panel(
                folder / name,
                trial.origin.seen(trial.y)[0],
                bounds,
                title=f"{trial.name}: {self.experiment.measuring.name}",
                truth=trial.truth[0],
                nominal=1 - self.experiment.restorer.alpha,
                guarantee=bounds.guarantee,
            )
        return Figure(f"Restoration of {trial.name}", (out / name).read_bytes(), trial.name)

    def _report(self, trials: Sequence[Trial], findings: Findings) -> Report:
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
            images=[_image(trial, findings.of(i)) for i, trial in enumerate(trials)],
            settings={
                "operator": nominal.label,
                **experiment.restorer.settings(),
                "sampler": experiment.restorer.provenance(nominal).sampler,
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "card": None if card is None else _told(card),
                "scores": {"psnr_degraded": _psnr_degraded(trials), **findings.scores},
            },
        )


def _image(trial: Trial, bounds: Bounds) -> ImageReport:
    return ImageReport(
        trial.name,
        mean_width=float(bounds.width.double().mean()),
        seconds=trial.restoration.seconds,
        nfe=trial.restoration.nfe,
        psnr=float(psnr(bounds.estimate, trial.truth)),
        coverage=float(bounds.contains(trial.truth).double().mean()),
    )


def _told(card: Calibration) -> dict[str, Any]:
    """What a reader wants to know of a card; how it knows its pictures again is for programs."""
    return {name: value for name, value in card.card().items() if name in _TOLD}


def evaluate_model(
    asked: Asked,
    sampling: SamplingOptions,
    card: Path | None,
    data: Path,
    crop: int,
    out: Path,
) -> dict[str, Any]:
    """Evaluate on the pictures in `data`; returns what is in ``report.json``.

    The same for people, with figures, is in ``report.html``.

    Raises: CertesError for senseless settings, a card that does not hold for them, or a picture
        that cannot be used.
    """
    experiment = plan_experiment(asked, sampling)
    wanted = experiment.restorer.provenance(experiment.measuring.nominal)
    found = find_card(card, sampling.model, wanted)
    pictures = experiment.measuring.read(data, crop)
    warn_of_known_pictures(experiment, pictures, sampling.model, found)
    return Evaluation(experiment, found).run(pictures, out)


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
