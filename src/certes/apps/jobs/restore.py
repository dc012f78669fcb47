"""Restore the user's own pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic

from certes import __version__
from certes.apps.console import Advance, complain_about, progress
from certes.apps.outputs import named_pictures, save_report
from certes.apps.plans import Plan
from certes.apps.restorer import AnyOrigin
from certes.apps.truths import Truths, find_truths, fitting, measured
from certes.errors import CertesError
from certes.evaluation.report import Failure, ImageReport, Report


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
        plan: how.
        out: folder for the results.
    """

    plan: Plan[AnyOrigin]
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
        source = self.plan.reader(path)
        truth = truths(source.picture.name)
        true_pixels = None if truth is None else fitting(truth, source)
        restoration = self.plan.restorer(source.y, source.origin, advance)
        bounds = self.plan.finished(source, restoration.bounds)
        self.plan.save(source, bounds, self.out, true_pixels)
        name = source.picture.name
        image = measured(name, bounds, true_pixels, restoration.seconds, restoration.nfe)
        return Done(image, source.origin.level, source.origin.label, bounds.guarantee)

    def _report(self, done: Sequence[Done], failures: Sequence[Failure]) -> Report:
        reader, restorer, card = self.plan.reader, self.plan.restorer, self.plan.card
        levels = {d.image.name: d.noise for d in done}
        one_level = len(set(levels.values())) == 1
        guarantees = {d.guarantee for d in done}
        guarantee = guarantees.pop() if len(guarantees) == 1 else None
        return Report(
            version=__version__,
            model=restorer.model.name,
            task=reader.name,
            noise=next(iter(levels.values())) if one_level else reader.noise,
            alpha=restorer.alpha,
            delta=None if guarantee is None or card is None else card.delta,
            guarantee=guarantee,
            images=[d.image for d in done],
            failures=failures,
            settings={
                "operators": {d.image.name: d.origin for d in done},
                "noise_estimated": reader.estimates_noise,
                "noise_levels": levels,
                "without_guarantee": [d.image.name for d in done if d.guarantee is None],
                **restorer.settings(),
            },
        )
