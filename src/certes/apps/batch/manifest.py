"""The manifest: one row for each picture, kept through kills.

Rows are written as they come, in small Parquet files of their own; at the end of a run they become
one file, ``manifest.parquet``. Each file appears at once or not at all: whatever can be read is
whole.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, cast

import pyarrow as pa  # pyright: ignore[reportMissingTypeStubs]
from pyarrow import parquet  # pyright: ignore[reportMissingTypeStubs]

from certes.apps.batch.places import Place
from certes.errors import InputError

NAME = "manifest.parquet"
WORK = ".batch"
"""The folder of what is gone when a run ends."""
_PARTS = f"{WORK}/rows"
DONE, FAILED = "done", "failed"

_arrow, _parquet = cast(Any, pa), cast(Any, parquet)  # not typed


@dataclass(frozen=True)
class Row:
    """What became of a picture.

    Args:
        name: of the picture and its results.
        uri: where it was read from.
        version: of the file that was read.
        settings: a mark of all settings that results depend on.
        status: ``done`` or ``failed``.
        seconds: of restoring it, its share of those of its batch.
        noise: standard deviation, image units, if it is one number.
        mean_width: of the interval, image units.
        psnr: in dB, if a truth is known.
        coverage: share of the true values inside of the interval, if a truth is known.
        guarantee: in words, if there is one.
        error: one line, if it failed.
    """

    name: str
    uri: str
    version: str
    settings: str
    status: str
    seconds: float | None = None
    noise: float | None = None
    mean_width: float | None = None
    psnr: float | None = None
    coverage: float | None = None
    guarantee: str | None = None
    error: str | None = None


_NUMBERS = ("seconds", "noise", "mean_width", "psnr", "coverage")
SCHEMA = _arrow.schema(
    [(f.name, _arrow.float64() if f.name in _NUMBERS else _arrow.string()) for f in fields(Row)]
)


class Manifest:
    """The rows of a place.

    Args:
        place: of the results.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._parts = [f"{_PARTS}/{name}" for name in place.names(_PARTS)]
        self.rows = {row.name: row for path in (NAME, *self._parts) for row in _read(place, path)}

    def add(self, rows: Sequence[Row]) -> None:
        """Keep rows, at once."""
        path = f"{_PARTS}/{len(self._parts):08d}-{rows[0].name}.parquet"
        self.place.write(path, _written(rows))
        self._parts.append(path)
        self.rows |= {row.name: row for row in rows}

    def close(self, names: Iterable[str]) -> None:
        """Make it one file, of these pictures in this order."""
        self.place.write(NAME, _written([self.rows[n] for n in names if n in self.rows]))
        self.place.remove(WORK)
        self._parts = []


def _written(rows: Sequence[Row]) -> bytes:
    table = _arrow.Table.from_pylist([asdict(row) for row in rows], schema=SCHEMA)
    content = io.BytesIO()
    _parquet.write_table(table, content)
    return content.getvalue()


def _read(place: Place, path: str) -> list[Row]:
    content = place.read(path)
    if content is None:
        return []
    try:
        table = _parquet.read_table(io.BytesIO(content))
        return [Row(**row) for row in table.to_pylist()]
    except (_arrow.ArrowException, TypeError) as error:
        raise InputError(
            f"{place.path(path)}: no manifest of certes batch ({error}); move it away, or give "
            "another place for the results"
        ) from error
