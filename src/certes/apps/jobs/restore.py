"""Restore the user's own pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic

from jaxtyping import Float
from torch import Tensor

from certes import __version__
from certes.apps.asking import is_conditional, task_options
from certes.apps.cards import find_card
from certes.apps.conditions import ConditionReader
from certes.apps.console import Advance, complain_about, progress
from certes.apps.measurements import AUTOMATIC, MeasurementReader
from certes.apps.options import Asked, SamplingOptions
from certes.apps.origins import Given, Measured
from certes.apps.outputs import all_or_nothing, named_pictures, save_report
from certes.apps.restorer import AnyOrigin, Restorer, load_condition_restorer, load_restorer
from certes.apps.sources import Reader, Source
from certes.apps.truths import Truths, find_truths, fitting
from certes.data.pictures import write_picture, write_tiff_stack
from certes.errors import CertesError
from certes.evaluation.metrics import psnr
from certes.evaluation.panels import restoration_panel
from certes.evaluation.report import Failure, ImageReport, Report
from certes.intervals.bounds import Bounds
from certes.intervals.cards import Calibration


@dataclass(frozen=True)
class Done:
    """A picture that has been restored: from what, and with which noise level."""

    image: ImageReport
    noise: float | None
    origin: str
    guarantee: str | None


@dataclass(frozen=True)
class RestoreJob(Generic[AnyOrigin]):
    """Restore pictures one by one.

    Args:
        reader: says what happened to them.
        restorer: what restores.
        card: gives the intervals their guarantee.
        insist: whether the user named the card, so that where it does not hold is an error.
        out: folder for the results.
    """

    reader: Reader[AnyOrigin]
    restorer: Restorer[Any, AnyOrigin]
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
        restoration = self.restorer(source.y, source.origin, advance)
        bounds = source.origin.framed(self._calibrated(restoration.bounds))
        self._save(source, bounds, true_pixels)
        name = source.picture.name
        image = _measured(name, bounds, true_pixels, restoration.seconds, restoration.nfe)
        return Done(image, source.origin.level, source.origin.label, bounds.guarantee)

    def _calibrated(self, bounds: Bounds) -> Bounds:
        """With the guarantee, if there is a card; one that came with the model may not hold."""
        if self.card is None or not (self.insist or self.card.provenance == bounds.provenance):
            return bounds
        return self.card(bounds)

    def _save(
        self, source: Source[AnyOrigin], bounds: Bounds, truth: Float[Tensor, "c h w"] | None
    ) -> None:
        picture = source.picture
        pages = {"lower": bounds.lower, "estimate": bounds.estimate, "upper": bounds.upper}
        with all_or_nothing(self.out) as folder:
            restored = folder / f"{picture.name}.restored{picture.suffix}"
            write_picture(restored, bounds.estimate[0], picture)
            stack = {name: page[0] for name, page in pages.items()}
            write_tiff_stack(folder / f"{picture.name}.intervals.tif", stack)
            restoration_panel(
                folder / f"{picture.name}.panel.png",
                source.origin.seen(source.y)[0],
                bounds,
                title=f"{picture.name}: {self.reader.name}",
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
            task=self.reader.name,
            noise=next(iter(levels.values())) if one_level else self.reader.noise,
            alpha=self.restorer.alpha,
            delta=None if guarantee is None or self.card is None else self.card.delta,
            guarantee=guarantee,
            images=[d.image for d in done],
            failures=failures,
            settings={
                "operators": {d.image.name: d.origin for d in done},
                "noise_estimated": self.reader.estimates_noise,
                "noise_levels": levels,
                "without_guarantee": [d.image.name for d in done if d.guarantee is None],
                **self.restorer.settings(),
            },
        )


def plan_restoration(
    asked: Asked, sampling: SamplingOptions, card: Path | None, out: Path
) -> RestoreJob[Any]:
    """Check all that can be checked before a picture is looked at.

    Raises: CertesError for settings that no picture could be restored with.
    """
    if is_conditional(sampling.model):
        return _job(*_given(asked, sampling), sampling.model, card, out)
    return _job(*_measurements(asked, sampling), sampling.model, card, out)


def _measurements(
    asked: Asked, sampling: SamplingOptions
) -> tuple[Reader[Measured], Restorer[Any, Measured]]:
    noise = AUTOMATIC if asked.noise is None else str(asked.noise)
    reader = MeasurementReader(task_options(asked, sampling.model), noise)
    reader.check()
    return reader, load_restorer(sampling)


def _given(asked: Asked, sampling: SamplingOptions) -> tuple[Reader[Given], Restorer[Any, Given]]:
    restorer = load_condition_restorer(sampling)
    reader = ConditionReader(restorer.model, asked.mask)
    reader.check(asked, sampling)
    return reader, restorer


def _job(
    reader: Reader[AnyOrigin],
    restorer: Restorer[Any, AnyOrigin],
    source: str,
    card: Path | None,
    out: Path,
) -> RestoreJob[AnyOrigin]:
    nominal = reader.nominal()
    wanted = None if nominal is None else restorer.provenance(nominal)
    found = find_card(card, source, wanted)
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
