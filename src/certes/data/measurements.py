"""Measurements that are no pictures, in files of their own: numbers, and what measured them.

One safetensors file holds the numbers (``y``) and, as JSON in its header, the operator's
description and the noise if it is known.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from certes.data.fields import of_kinds
from certes.data.files import parse_json
from certes.data.tensors import write_tensors
from certes.errors import InputError

SUFFIX = ".safetensors"
_KEY = "certes"


@dataclass(frozen=True)
class MeasurementFile:
    """What such a file holds.

    Args:
        name: of the file, without folder and suffix.
        y: the measurement of one picture, image units.
        operator: what measured it, in words that JSON knows.
        noise: standard deviation, image units; ``None`` where nobody said.
    """

    name: str
    y: Float[Tensor, " *shape"]
    operator: dict[str, Any]
    noise: float | None


def write_measurement(path: Path, measurement: MeasurementFile) -> None:
    """Write it, atomically; the name is that of the file."""
    said = {"operator": measurement.operator, "noise": measurement.noise}
    write_tensors(path, {"y": measurement.y}, {_KEY: json.dumps(said)})


def read_measurement(path: Path) -> MeasurementFile:
    """Read it.

    Raises:
        InputError: for a file that is none, or damaged.
    """
    try:
        with cast(Any, safe_open(path, "pt")) as opened:
            file: Any = opened
            header: dict[str, str] = file.metadata() or {}
            said: dict[str, Any] = parse_json(header[_KEY])
            y: Tensor = file.get_tensor("y")
        return _checked(MeasurementFile(path.stem, y, said["operator"], said["noise"]))
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, RecursionError) as error:
        reason = str(error) or type(error).__name__
        raise InputError(
            f"{path}: not a measurement file ({reason}); certes degrade writes them"
        ) from error


def _checked(measurement: MeasurementFile) -> MeasurementFile:
    """What was read, if it makes sense. Raises: TypeError or ValueError if it does not."""
    of_kinds(measurement)
    if not measurement.y.is_floating_point() or not bool(measurement.y.isfinite().all()):
        raise ValueError(f"y holds {measurement.y.dtype} numbers, not all of them finite")
    if measurement.noise is not None and measurement.noise < 0:
        raise ValueError(f"noise is {measurement.noise}, not a standard deviation")
    return measurement
