"""Hands pictures to workers and rows back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from certes.apps.batch.inputs import Entry
from certes.apps.batch.job import Job
from certes.apps.batch.manifest import Row
from certes.apps.batch.pool import answered
from certes.apps.batch.worker import Worker


class _Tabled:
    """A worker as the pool calls it: tables in, tables out."""

    def __init__(self, job: Job, run: str) -> None:
        self.worker = Worker(job, run)

    def __call__(self, table: dict[str, Any]) -> dict[str, list[Any]]:
        columns = (table["name"], table["uri"], table["version"])
        entries = [Entry(*map(str, each)) for each in zip(*columns, strict=True)]
        rows = [asdict(row) for row in self.worker(entries)]
        return {"row": rows}


def restored(
    ray: Any, entries: Sequence[Entry], job: Job, run: str, workers: int, batch: int
) -> Iterator[list[Row]]:
    """Rows of pictures as they come, a batch at a time.

    Args:
        ray: a running Ray.
        entries: the pictures.
        job: what to do with them.
        run: the name of the run.
        workers: how many.
        batch: pictures that a worker is handed at once.
    """
    rows = [asdict(entry) for entry in entries]
    for table in answered(ray, rows, _Tabled, (job, run), workers=workers, batch=batch):
        yield [Row(**row) for row in table["row"]]
