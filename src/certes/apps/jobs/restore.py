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
from certes.apps.outputs import all_or_nothing, named_pictures, save_report, seen
from certes.apps.restorer import Restorer, load_restorer, one_picture, planes
from certes.apps.tasks import Task, make_task, noise_level
from certes.apps.truths import Truths, find_truths, fitting
from certes.data.pictures import (
    Picture,
    read_picture,
    write_picture,
    write_tiff_stack,
)
from certes.data.raster import check_size
from certes.errors import CertesError, InputError
from certes.evaluation.metrics import psnr
from certes.evaluation.panels import restoration_panel
from certes.evaluation.report import Failure, ImageReport, Report
from certes.intervals.bounds import Bounds
from certes.intervals.cards import Calibration
from certes.restoration.noise import QUANTISATION, estimate_noise


@dataclass(frozen=True)
class Done:
    """A picture that has been restored: what was measured, and with which noise level."""

    image: ImageReport
    noise: float
    channels_apart: bool


@dataclass(frozen=True)
class RestoreJob:
    """Restore pictures one by one.

    Args:
        task: what happened to them.
        noise: standard deviation, image units; None estimates it from each picture.
        restorer: what restores.
        card: gives the intervals their guarantee.
        out: folder for the results.
    """

    task: Task
    noise: float | None
    restorer: Restorer
    card: Calibration | None
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
        picture = read_picture(path, noisy=True)
        truth = truths(picture.name)
        y = self.restorer.rows(picture)
        height, width = y.shape[2:]
        check_size(path, width * self.task.factor, height * self.task.factor)
        H = self.task.operator_behind(y)
        true_pixels = None if truth is None else fitting(truth, picture, H)
        noise = self.noise
        if noise is None:
            noise = max(float(estimate_noise(picture.pixels[None])), QUANTISATION)
        restoration = self.restorer(y, H, noise, advance)
        bounds = restoration.bounds if self.card is None else self.card(restoration.bounds)
        bounds = one_picture(bounds)
        self._save(picture, planes(seen(y, H)), bounds, true_pixels)
        image = _measured(picture.name, bounds, true_pixels, restoration.seconds, restoration.nfe)
        return Done(image, noise, channels_apart=len(y) > 1)

    def _save(
        self,
        picture: Picture,
        shown: Float[Tensor, "c h_in w_in"],
        bounds: Bounds,
        truth: Float[Tensor, "c h w"] | None,
    ) -> None:
        pages = {"lower": bounds.lower, "estimate": bounds.estimate, "upper": bounds.upper}
        with all_or_nothing(self.out) as folder:
            restored = folder / f"{picture.name}.restored{picture.suffix}"
            write_picture(restored, bounds.estimate[0], picture)
            stack = {name: page[0] for name, page in pages.items()}
            write_tiff_stack(folder / f"{picture.name}.intervals.tif", stack)
            restoration_panel(
                folder / f"{picture.name}.panel.png",
                shown,
                bounds,
                title=f"{picture.name}: {self.task.name}",
                truth=truth,
                nominal=1 - self.restorer.alpha,
                guarantee=bounds.guarantee,
            )

    def _report(self, done: Sequence[Done], failures: Sequence[Failure]) -> Report:
        levels = {d.image.name: d.noise for d in done}
        one_level = len(set(levels.values())) == 1
        return Report(
            version=__version__,
            model=self.restorer.model.name,
            task=self.task.name,
            noise=next(iter(levels.values())) if one_level else self.noise,
            alpha=self.restorer.alpha,
            delta=None if self.card is None else self.card.delta,
            guarantee=None if self.card is None else self.card.guarantee,
            images=[d.image for d in done],
            failures=failures,
            settings={
                "operator": self.task.label,
                "noise_estimated": self.noise is None,
                "noise_levels": levels,
                "channels_apart": [d.image.name for d in done if d.channels_apart],
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
    made = make_task(task)
    level = _noise(noise, made)
    restorer = load_restorer(sampling)
    wanted = None if level is None else restorer.provenance(made.label, level)
    return RestoreJob(made, level, restorer, find_card(card, sampling.model, wanted), out)


def _noise(text: str, task: Task) -> float | None:
    """A level, or None for "auto"."""
    if text == "auto" and task.name is TaskName.INPAINT:
        raise InputError(
            "noise: it cannot be estimated from a picture with holes: give --noise SIGMA, values "
            "in [0, 1], for example 0.02"
        )
    if text == "auto":
        return None
    try:
        level = float(text)
    except ValueError as error:
        raise InputError(f"noise: {text!r}; give a number, values in [0, 1], or auto") from error
    return noise_level(task, level)


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
