"""Hands pictures to workers and rows back: Ray Data, one actor for each device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from certes.apps.batch.cluster import devices
from certes.apps.batch.inputs import Entry
from certes.apps.batch.job import Job
from certes.apps.batch.manifest import Row
from certes.apps.batch.worker import Worker

# Tasks that wait at a worker: one, so that it never waits itself. More would only be lost with it.
_WAITING = 2

Answer = TypeVar("Answer")


class _Actor:
    """A worker as Ray Data calls it: tables in, tables out."""

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

    A worker that dies is replaced, and what it had in hand is done again.

    Args:
        ray: a running Ray.
        entries: the pictures.
        job: what to do with them.
        run: the name of the run.
        workers: how many.
        batch: pictures that a worker is handed at once.
    """
    gpus, _ = devices(ray)
    tables = ray.data.from_items(
        [asdict(entry) for entry in entries], override_num_blocks=-(-len(entries) // batch)
    )
    answers = tables.map_batches(
        _Actor,
        batch_size=batch,
        batch_format="numpy",
        fn_constructor_args=(job, run),
        compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=_WAITING),
        num_cpus=1,
        num_gpus=1 if gpus else 0,
    )
    for table in answers.iter_batches(batch_size=None, prefetch_batches=0):
        yield [Row(**row) for row in table["row"]]
