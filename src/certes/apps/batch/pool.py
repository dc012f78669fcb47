"""Actors that answer tables with tables: Ray Data, one for each device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from certes.apps.batch.cluster import devices

# Tasks at an actor: one in hand and one that waits, so that it never waits itself. More would only
# be lost with it.
_IN_FLIGHT = 2

Table = dict[str, Any]


class _Actor:
    """A process of its own, which computes on one thread.

    So results do not depend on how many actors there are. Said here and not by what they call, for
    the setting holds for the whole process.
    """

    def __init__(self, kind: Callable[..., Callable[[Table], Table]], *told: Any) -> None:
        torch.set_num_threads(1)
        self.answer = kind(*told)

    def __call__(self, table: Table) -> Table:
        return self.answer(table)


def answered(
    ray: Any,
    rows: Sequence[Table],
    kind: Callable[..., Callable[[Table], Table]],
    told: tuple[Any, ...],
    *,
    workers: int,
    batch: int,
) -> Iterator[Table]:
    """Answers to rows as they come, a batch at a time.

    An actor that dies is replaced, and what it had in hand is done again.

    Args:
        ray: a running Ray.
        rows: what is asked.
        kind: makes what an actor calls with a table of rows.
        told: what it is made from.
        workers: actors.
        batch: rows that an actor is handed at once.
    """
    gpus, _ = devices(ray)
    answers = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // batch)).map_batches(
        _Actor,
        batch_size=batch,
        batch_format="numpy",
        fn_constructor_args=(kind, *told),
        compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=_IN_FLIGHT),
        num_cpus=1,
        num_gpus=1 if gpus else 0,
    )
    yield from answers.iter_batches(batch_size=None, prefetch_batches=0)
