"""What the decoders hand over and the encoders take: samples as they lie in a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from certes.errors import InputError

SampleType = Literal["uint8", "uint16", "float32"]

FULL_SCALE: dict[str, float] = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}
"""The sample value that means 1.0, by sample type."""

MAX_PIXELS = 2**26
"""8192 x 8192: what a picture may have so that its restoration fits in a workstation's memory."""


@dataclass(frozen=True)
class Raster:
    """Samples (H, W, C) with C = 1 or 3, plus one for alpha (always last, never premultiplied)."""

    samples: NDArray[np.generic]
    has_alpha: bool

    @property
    def dtype(self) -> SampleType:
        """The sample type: "uint8", "uint16" or "float32"."""
        return cast(SampleType, self.samples.dtype.name)


def check_size(path: Path, width: int, height: int) -> None:
    """Refuse a picture of more than MAX_PIXELS; called with the size that the header states.

    Raises: InputError.
    """
    if width * height > MAX_PIXELS:
        raise too_large(path, f"{width} x {height} pixels")


def too_large(path: Path, size: str) -> InputError:
    """Return the error for a picture of more than MAX_PIXELS, `size` in words."""
    side = int(MAX_PIXELS**0.5)
    return InputError(
        f"{path}: {size} is more than the limit of {side} x {side}: "
        "cut the picture into parts, or make it smaller"
    )
