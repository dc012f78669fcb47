"""True pictures measured by many workers, for one calibration card.

Each worker turns its share of the pictures into tallies, and the driver merges them. A picture
keeps the number that it has in a run of one process, and with it its noise, so that the tally is
the same however many workers there were.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from certes.apps.batch.cluster import cluster
from certes.apps.batch.pool import answered
from certes.apps.console import progress
from certes.apps.measuring import plan_experiment
from certes.apps.options import Asked, SamplingOptions
from certes.data.pictures import Picture
from certes.errors import InputError
from certes.intervals.tally import Tally


class Counter:
    """Holds a model, and answers true pictures with the tally of each, as bytes.

    Args:
        asked: what is measured.
        sampling: the model and its settings.
        family: of nested intervals.
    """

    def __init__(self, asked: Asked, sampling: SamplingOptions, family: str) -> None:
        self.experiment = plan_experiment(asked, sampling)
        self.family = family

    def __call__(self, table: dict[str, Any]) -> dict[str, list[bytes]]:
        numbered = zip(table["index"], table["picture"], strict=True)
        return {"tally": [self._counted(int(index), picture) for index, picture in numbered]}

    def _counted(self, index: int, picture: Picture) -> bytes:
        seen = self.experiment.measuring.observe(picture, index)
        restoration = self.experiment.restorer(seen.y, seen.origin, lambda _: None)
        return packed(Tally(self.family).add(restoration.bounds, seen.truth))


def tallied(
    pictures: Sequence[Picture],
    asked: Asked,
    sampling: SamplingOptions,
    family: str,
    workers: int,
    address: str | None,
) -> Tally:
    """Measure and restore true pictures on workers.

    Args:
        pictures: as `Measuring.read` gives them.
        asked: what is measured.
        sampling: the model and its settings.
        family: of nested intervals.
        workers: how many.
        address: of a Ray that runs; by default one is started here.

    Raises: InputError if Ray is not installed, cannot be reached, or gives up.
    """
    whole = Tally(family)
    with (
        cluster(address, workers) as ray,
        progress("restoring on workers", len(pictures)) as advance,
    ):
        for part in _parts(ray, pictures, (asked, sampling, family), min(workers, len(pictures))):
            whole.merge(unpacked(part))
            advance(1)
    if whole.images != len(pictures):  # a card of some of the pictures would be a choice
        raise InputError(f"data: {whole.images} of {len(pictures)} pictures came back; try again")
    return whole


def packed(tally: Tally) -> bytes:
    """A tally as it is sent: what `Tally.save` writes."""
    with tempfile.TemporaryDirectory(prefix="certes-") as folder:
        path = Path(folder) / "part.tally"
        tally.save(path)
        return path.read_bytes()


def unpacked(content: bytes) -> Tally:
    """The tally that was sent.

    Raises: CalibrationError for bytes that are none.
    """
    with tempfile.TemporaryDirectory(prefix="certes-") as folder:
        path = Path(folder) / "part.tally"
        path.write_bytes(content)
        return Tally.load(path)


def _parts(
    ray: Any, pictures: Sequence[Picture], told: tuple[Any, ...], workers: int
) -> Iterator[bytes]:
    rows = [{"index": i, "picture": picture} for i, picture in enumerate(pictures)]
    for table in answered(ray, rows, Counter, told, workers=workers, batch=1):
        yield from map(bytes, table["tally"])
