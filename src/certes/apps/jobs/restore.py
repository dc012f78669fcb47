"""Restore the user's own pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from certes import __version__
from certes.apps.cards import find_card
from certes.apps.console import Advance, complain_about, progress
from certes.apps.options import SamplingOptions, TaskName, TaskOptions
from certes.apps.outputs import all_or_nothing, framed, named_pictures, save_report, seen
from certes.apps.restorer import Restorer, load_restorer
from certes.apps.sources import Reader, Source, check_noise
from certes.apps.truths import Truths, find_truths, fitting
from certes.data.pictures import write_picture, write_tiff_stack
from certes.errors import CertesError, InputError
from certes.evaluation.metrics import psnr
from certes.evaluation.panels import restoration_panel
from certes.evaluation.report import Failure, ImageReport, Report
from certes.intervals.bounds import Bounds
from certes.intervals.cards import Calibration
from certes.restoration.request import operator_label, typical_level


@dataclass(frozen=True)
class Done:
    """A picture that has been restored: what was measured, and with which noise level."""

    image: ImageReport
    noise: float
    operator: str
    guarantee: str | None


@dataclass(frozen=True)
class RestoreJob:
    """Restore pictures one by one.

    Args:
        reader: says what happened to them.
        restorer: what restores.
        card: gives the intervals their guarantee.
        insist: whether the user named the card, so that where it does not hold is an error.
        out: folder for the results.
    """

    reader: Reader
    restorer: Restorer
    card: Calibration | None
    insist: bool
    out: Path

    def run(self, inputs: Sequence[Path], truth: Path | None) -> dict[str, Any]:
        """Restore every picture that can be; returns what is in ``report.json``.

        When none can be, nothing is written, and the report lists failures only.

        Raises: InputError for inputs or truths that make no sense together.
        """
        paths = named_pictures(inputs)
        truths = find_truths(truth, len(paths))
        done: list[Done] = []
        failures: list[Failure] = []
        with progress("restoring", len(paths)) as advance:
            for path in paths:
                try:
                    done.append(self._restore(path, truths, advance))
                except CertesError as error:
                    failures.append(Failure(path.name, complain_about(path, error)))
        report = self._report(done, failures)
        return save_report(self.out, report) if done else asdict(report)

    def _restore(self, path: Path, truths: Truths, advance: Advance) -> Done:
        source = self.reader(path)
        truth = truths(source.picture.name)
        true_pixels = None if truth is None else fitting(truth, source)
        restoration = self.restorer(source.y, source.operator, source.noise, advance)
        bounds = framed(self._calibrated(restoration.bounds), source.operator)
        self._save(source, bounds, true_pixels)
        name = source.picture.name
        image = _measured(name, bounds, true_pixels, restoration.seconds, restoration.nfe)
        label = operator_label(source.operator)
        return Done(image, typical_level(source.noise), label, bounds.guarantee)

    def _calibrated(self, bounds: Bounds) -> Bounds:
        """With the guarantee, if there is a card; one that came with the model may not hold."""
        if self.card is None or not (self.insist or self.card.provenance == bounds.provenance):
            return bounds
        return self.card(bounds)

    def _save(self, source: Source, bounds: Bounds, truth: Float[Tensor, "c h w"] | None) -> None:
        picture = source.picture
        pages = {"lower": bounds.lower, "estimate": bounds.estimate, "upper": bounds.upper}
        with all_or_nothing(self.out) as folder:
            restored = folder / f"{picture.name}.restored{picture.suffix}"
            write_picture(restored, bounds.estimate[0], picture)
            stack = {name: page[0] for name, page in pages.items()}
            write_tiff_stack(folder / f"{picture.name}.intervals.tif", stack)
            restoration_panel(
                folder / f"{picture.name}.panel.png",
                seen(source.y, source.operator)[0],
                bounds,
                title=f"{picture.name}: {self.reader.options.name}",
                truth=truth,
                nominal=1 - self.restorer.alpha,
                guarantee=bounds.guarantee,
            )

    def _report(self, done: Sequence[Done], failures: Sequence[Failure]) -> Report:
        levels = {d.image.name: d.noise for d in done}
        one_level = len(set(levels.values())) == 1
        guarantees = {d.guarantee for d in done}
        guarantee = guarantees.pop() if len(guarantees) == 1 else None
        return Report(
            version=__version__,
            model=self.restorer.model.name,
            task=self.reader.options.name,
            noise=next(iter(levels.values())) if one_level else self.reader.fixed_noise(),
            alpha=self.restorer.alpha,
            delta=None if guarantee is None or self.card is None else self.card.delta,
            guarantee=guarantee,
            images=[d.image for d in done],
            failures=failures,
            settings={
                "operators": {d.image.name: d.operator for d in done},
                "noise_estimated": self.reader.fixed_noise() is None,
                "noise_levels": levels,
                "without_guarantee": [d.image.name for d in done if d.guarantee is None],
                **self.restorer.settings(),
            },
        )


def plan_restoration(
    task: TaskOptions, noise: str, sampling: SamplingOptions, card: Path | None, out: Path
) -> RestoreJob:
    """Check all that can be checked before a picture is looked at.

    Raises: CertesError for settings that no picture could be restored with.
    """
    if task.name is TaskName.INPAINT and task.mask is None:
        raise InputError(
            "mask: --task inpaint needs --mask PNG, white where pixels are known, black elsewhere"
        )
    reader = Reader(task, noise)
    made = reader.fixed_task()
    check_noise(reader, made)
    restorer = load_restorer(sampling)
    level = reader.fixed_noise()
    known = None if made is None or level is None else (made.operator(made.nominal, 0), level)
    wanted = None if known is None else restorer.provenance(*known)
    found = find_card(card, sampling.model, wanted)
    return RestoreJob(reader, restorer, found, card is not None, out)


def _measured(
    name: str, bounds: Bounds, truth: Float[Tensor, "c h w"] | None, seconds: float, nfe: int
) -> ImageReport:
    width = float(bounds.width.double().mean())
    if truth is None:
        return ImageReport(name, width, seconds, nfe)
    return ImageReport(
        name,
        width,
        seconds,
        nfe,
        psnr=float(psnr(bounds.estimate, truth[None])),
        coverage=float(bounds.contains(truth[None]).double().mean()),
    )
