"""What a worker does: restores what it is handed, several pictures of a size at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from certes.apps.batch.attempts import MOST, Attempts
from certes.apps.batch.inputs import Entry
from certes.apps.batch.job import Job
from certes.apps.batch.manifest import DONE, FAILED, Row
from certes.apps.batch.places import Place, fetched
from certes.apps.plans import plan_restoration
from certes.apps.restorer import Restoration
from certes.apps.sources import Source
from certes.apps.truths import find_truths, fitting, measured
from certes.errors import CertesError
from certes.intervals.bounds import Bounds


@dataclass(frozen=True)
class _Read:
    """A picture as it was read, and what it will be compared with."""

    entry: Entry
    source: Source[Any]
    truth: Float[Tensor, "c h w"] | None


class Worker:
    """Holds a model, and answers pictures with rows.

    Args:
        job: what is to be done.
        run: the name of this run.
    """

    def __init__(self, job: Job, run: str) -> None:
        self.plan = plan_restoration(job.asked, job.sampling, job.card)
        self.truths = find_truths(job.truth, 2)
        self.place = Place(job.out)
        self.attempts = Attempts(self.place, run)
        self.mark = job.mark(self.plan)
        # Of one operator and one noise level, whatever the picture: several may share a call.
        self.alike = self.plan.reader.nominal() is not None

    def __call__(self, entries: Sequence[Entry]) -> list[Row]:
        """Restore pictures and save the results; returns a row for each, in their order.

        Nothing is raised for a picture that cannot be restored: its row says why.
        """
        rows: dict[str, Row] = {}
        deaths = {entry.name: self.attempts.deaths(entry.name) for entry in entries}
        innocent = [entry for entry in entries if not deaths[entry.name]]
        for entry in entries:
            if deaths[entry.name] >= MOST:
                rows[entry.name] = self._failed(entry, f"{MOST} workers died of this picture")
            elif deaths[entry.name]:  # whoever died of a batch, died of one picture in it
                rows |= self._noted([entry], deaths)
        rows |= self._noted(innocent, deaths)
        return [rows[entry.name] for entry in entries]

    def _noted(self, entries: Sequence[Entry], deaths: dict[str, int]) -> dict[str, Row]:
        for entry in entries:
            self.attempts.begin(entry.name, deaths[entry.name])
        rows = dict(self._restored(entries))
        for entry in entries:
            self.attempts.end(entry.name)
        return rows

    def _restored(self, entries: Sequence[Entry]) -> Iterator[tuple[str, Row]]:
        read: list[_Read] = []
        for entry in entries:
            try:
                with fetched(entry.uri) as path:
                    source = self.plan.reader(path)
                picture = self.truths(entry.name)
                truth = None if picture is None else fitting(picture, source)
                read.append(_Read(entry, source, truth))
            except Exception as error:
                yield entry.name, self._failed(entry, _said(entry, error))
        for group in together([one.source for one in read], self.alike):
            for entry, row in self._group([read[i] for i in group]):
                yield entry.name, row

    def _group(self, group: Sequence[_Read]) -> list[tuple[Entry, Row]]:
        """Restore pictures in one call; one that spoils it for the others is found alone."""
        try:
            y = torch.cat([one.source.y for one in group])
            whole = self.plan.restorer(y, group[0].source.origin, lambda _: None)
            return [
                (one.entry, self._saved(one, part))
                for one, part in zip(group, parted(whole), strict=True)
            ]
        except Exception as error:  # a run of a million pictures does not end with one of them
            if len(group) == 1:
                entry = group[0].entry
                return [(entry, self._failed(entry, _said(entry, error)))]
        return [row for one in group for row in self._group([one])]

    def _saved(self, read: _Read, restoration: Restoration) -> Row:
        entry, source, truth = read.entry, read.source, read.truth
        bounds = self.plan.finished(source, restoration.bounds)
        self.place.save(lambda folder: self.plan.save(source, bounds, folder, truth))
        image = measured(entry.name, bounds, truth, restoration.seconds, restoration.nfe)
        return Row(
            entry.name,
            entry.uri,
            entry.version,
            self.mark,
            DONE,
            seconds=image.seconds,
            noise=source.origin.level,
            mean_width=image.mean_width,
            psnr=image.psnr,
            coverage=image.coverage,
            guarantee=bounds.guarantee,
        )

    def _failed(self, entry: Entry, error: str) -> Row:
        return Row(entry.name, entry.uri, entry.version, self.mark, FAILED, error=error)


def together(sources: Sequence[Source[Any]], alike: bool) -> list[list[int]]:
    """Which pictures share a call: those of one size, if one operator measured all.

    Equal measurements do not: beside each other they would be given other noise than alone.
    """
    groups: list[list[int]] = []
    for i, source in enumerate(sources):
        fits = (
            group
            for group in groups
            if alike
            and sources[group[0]].y.shape == source.y.shape
            and not any(torch.equal(sources[j].y, source.y) for j in group)
        )
        group = next(fits, None)
        if group is None:
            groups.append([i])
        else:
            group.append(i)
    return groups


def parted(whole: Restoration) -> list[Restoration]:
    """The restoration of each picture of a batch, with its share of the time."""
    b, count = whole.bounds, len(whole.bounds.estimate)
    parts = (
        Bounds(
            b.lower[i : i + 1],
            b.estimate[i : i + 1],
            b.upper[i : i + 1],
            b.provenance,
            rungs=None if b.rungs is None else b.rungs[:, :, i : i + 1],
        )
        for i in range(count)
    )
    return [Restoration(part, whole.seconds / count, whole.nfe) for part in parts]


def _said(entry: Entry, error: Exception) -> str:
    """What is wrong, in one line that names the picture; the kind too, where nobody foresaw it."""
    text = " ".join(str(error).split())
    if not isinstance(error, CertesError | OSError):
        text = f"{type(error).__name__}: {text}"
    name = Path(entry.uri).name
    return text if name in text else f"{name}: {text}"
