"""One restoration: its progress and previews, and its result.

Restorations are done one after the other by a single thread, so that a server needs the memory of
one, and none is slowed down by another.
"""

from __future__ import annotations

import queue
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from jaxtyping import Float
from torch import Tensor

from certes.apps.jobs.degrade import degrade_pictures
from certes.apps.jobs.restore import RestoreJob
from certes.apps.plans import plan_restoration
from certes.apps.tasks import read_mask
from certes.apps.web.desks import Desk
from certes.apps.web.forms import Form
from certes.apps.web.limits import Limits, Stopped
from certes.apps.web.memory import give_back
from certes.apps.web.watched import Kept, watched
from certes.data.pictures import read_picture
from certes.diffusion.solvers.state import State
from certes.errors import InputError

_WORKER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="certes-restorer")


@dataclass(frozen=True)
class Step:
    """How far a restoration is.

    Args:
        share: of the work, 0 to 1.
        estimate: the picture that one of the answers believes in by now, (C, H, W).
    """

    share: float
    estimate: Float[Tensor, "c h w"]


@dataclass(frozen=True)
class Result:
    """A restoration.

    Args:
        kept: bounds, samples, and what they are compared with.
        report: what is in ``report.json``.
        intervals, panel, summary: the files to download: TIFF, PNG, JSON.
    """

    kept: Kept
    report: dict[str, Any]
    intervals: Path
    panel: Path
    summary: Path

    @property
    def nbytes(self) -> int:
        """Memory that it takes, but for little things."""
        bounds, samples = self.kept.bounds, self.kept.samples
        pictures = [] if bounds is None else [bounds.lower, bounds.estimate, bounds.upper]
        return sum(each.nbytes for each in [*pictures, *([] if samples is None else [samples])])


@dataclass(frozen=True)
class _Given:
    """What is restored: a file, a mask where it has holes, and the truth where that is known."""

    path: Path
    mask: Path | None
    truth: Path | None


def run(form: Form, desk: Desk, limits: Limits) -> Iterator[Step | Result]:
    """Restore the picture on a desk: steps as they come, then the result.

    When the iterator is closed before its end, the restoration stops at its next network call.

    Raises: CertesError for what cannot be restored, Stopped when it takes too long or is
        unwanted.
    """
    # Only the newest step counts: a slow browser must not hold the restoration up.
    steps: queue.Queue[Step] = queue.Queue()
    unwanted = desk.unwanted = Event()
    future = _WORKER.submit(_restored, form, desk, limits, steps, unwanted)
    try:
        yield from _steps(steps, future)
        yield future.result()
    finally:
        unwanted.set()
        future.cancel()


def _steps(steps: queue.Queue[Step], future: Future[Result]) -> Iterator[Step]:
    while not future.done():
        try:
            newest = steps.get(timeout=0.25)
        except queue.Empty:
            continue
        while not steps.empty():
            newest = steps.get_nowait()
        yield newest


def _restored(
    form: Form, desk: Desk, limits: Limits, steps: queue.Queue[Step], unwanted: Event
) -> Result:
    try:
        return _restore(form, desk, limits, steps, unwanted)
    finally:
        give_back()
        if desk.forgotten:  # while its files were written
            shutil.rmtree(desk.folder, ignore_errors=True)


def _restore(
    form: Form, desk: Desk, limits: Limits, steps: queue.Queue[Step], unwanted: Event
) -> Result:
    deadline = limits.deadline()

    def hears(share: float, state: State) -> None:
        if unwanted.is_set():
            raise Stopped("stopped")
        deadline.check()
        steps.put(Step(share, state.estimate[0].detach().float().cpu().clamp(0, 1)))

    folder = desk.new_folder()
    given = _given(form, desk, folder)
    plan = watched(plan_restoration(form.asked(given.mask), form.sampling(), None), limits, hears)
    report = RestoreJob(plan, folder / "results").run([given.path], given.truth)
    if report["failures"]:
        raise InputError(report["failures"][0]["error"])
    (image,) = report["images"]
    out, name = folder / "results", image["name"]
    return Result(
        plan.kept,
        report,
        out / f"{name}.intervals.tif",
        out / f"{name}.panel.png",
        out / "report.json",
    )


def _given(form: Form, desk: Desk, folder: Path) -> _Given:
    if desk.path is None:
        raise InputError("picture: none yet: drop one, or pick one that comes with certes")
    if not form.degrade:
        return _Given(desk.path, desk.mask, None)
    out = folder / "degraded"
    made = degrade_pictures(
        [desk.path],
        form.degrading(desk.mask),
        form.added_noise(),
        form.sampling().seed,
        out,
        png=False,
    )
    if made["failures"]:
        raise InputError(made["failures"][0]["error"])
    (image,) = made["images"]
    files = [out / name for name in image["files"]]
    masks = [file for file in files if file.name.endswith(".mask.png")]
    (degraded,) = [file for file in files if file not in masks]
    return _Given(degraded, masks[0] if masks else None, desk.path)


def picked(desk: Desk, path: Path, limits: Limits) -> None:
    """Put a picture on a desk, in place of what was there.

    Raises: InputError for a file that is no such picture.
    """
    limits.check_header(path)
    picture = read_picture(path, noisy=True)
    limits.check_pixels(path.name, *picture.pixels.shape[1:])
    desk.picture, desk.path, desk.result, desk.corner = picture, path, None, None
    for old in desk.folder.glob("run-*"):
        shutil.rmtree(old, ignore_errors=True)


def masked(desk: Desk, path: Path, limits: Limits) -> None:
    """Put a mask on a desk.

    Raises: InputError for a file that is no picture.
    """
    limits.check_header(path)
    read_mask(path)
    desk.mask = path
