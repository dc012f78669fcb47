"""How far a picture is sent."""

from __future__ import annotations

import math
from dataclasses import dataclass

from certes.errors import InputError


@dataclass(frozen=True)
class Limit:
    """Where sending stops; without a limit, at the end.

    Args:
        bits_per_pixel: the most that the file may take, header and all.
        quality: the PSNR of the receiver's estimate, in dB, that is enough.

    Raises:
        InputError: for both at once, or one that makes no sense.
    """

    bits_per_pixel: float | None = None
    quality: float | None = None

    def __post_init__(self) -> None:
        if self.bits_per_pixel is not None and self.quality is not None:
            raise InputError("bits_per_pixel, quality: both given; only one can be kept to")
        for name in ("bits_per_pixel", "quality"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"{name}: {value}; give a number above 0")

    @property
    def lossless(self) -> bool:
        """Whether there is none."""
        return self == Limit()

    def budget(self, pixels: int, around: int) -> float:
        """Bits that the stream may take in a file with ``around`` bytes around it.

        Raises:
            InputError: if nothing is left of the limit.
        """
        if self.bits_per_pixel is None:
            return math.inf
        budget = self.bits_per_pixel * pixels - 8 * around
        if budget < 0:
            raise InputError(
                f"bits_per_pixel: {self.bits_per_pixel}; the header alone takes "
                f"{8 * around / pixels:.3g} for a picture of {pixels} pixels"
            )
        return budget

    def reached(self, error: float) -> bool:
        """Whether an estimate with this mean squared error is good enough."""
        return self.quality is not None and error <= 10 ** (-self.quality / 10)
