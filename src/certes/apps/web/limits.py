"""What one request may take: pixels, bytes, seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from certes.errors import InputError

MOST_SAMPLES = 64
MOST_STEPS = 100


class Stopped(Exception):  # noqa: N818 - no error: what was asked for
    """A restoration that is not to go on; no `CertesError`, which would stop one picture only."""


@dataclass(frozen=True)
class Limits:
    """What the server allows.

    Args:
        pixels: of a picture, as it comes and as it is restored.
        seconds: for one restoration.
        upload: bytes of one file.
        keep: seconds that a picture and its results are kept after their user's last click.
        memory: bytes that the results of all users may take; one of them takes a quarter at most.
        desks: how many users are remembered; of more, whoever was away longest is forgotten.
    """

    pixels: int
    seconds: float
    upload: int
    keep: float = 1800.0
    desks: int = 32
    memory: int = 2**31

    def check_pixels(self, what: str, height: int, width: int) -> None:
        """Refuse what is too large.

        Raises: InputError.
        """
        if height * width > self.pixels:
            raise InputError(
                f"{what}: {width} x {height} pixels, this page takes {self.pixels}: cut the "
                "picture into parts, or run certes restore, which has no such limit"
            )

    def check_samples(self, values: int) -> None:
        """Refuse so many sample values, which are kept for clicks.

        Raises: InputError.
        """
        if 4 * values > self.memory // 4:
            raise InputError(
                f"samples: {values / 1e6:.0f} million values in all, this page keeps "
                f"{self.memory / 16e6:.0f}: take fewer samples or a smaller picture, or run certes "
                "restore, which has no such limit"
            )

    def check_header(self, path: Path) -> None:
        """Refuse a file whose header states too many pixels, before any is decoded.

        What has no header that can be read is left to those who read the file.

        Raises: InputError.
        """
        size = _stated_size(path)
        if size is not None:
            self.check_pixels(path.name, *size)

    def deadline(self) -> Deadline:
        """The end of a restoration that starts now."""
        return Deadline(time.monotonic() + self.seconds, self.seconds)


@dataclass(frozen=True)
class Deadline:
    """When a restoration must have ended.

    Args:
        end: on the monotonic clock.
        seconds: how long it had.
    """

    end: float
    seconds: float

    def check(self) -> None:
        """To be called after every network call.

        Raises: Stopped when the time is over.
        """
        if time.monotonic() > self.end:
            raise Stopped(
                f"stopped after {self.seconds:g} s, the limit of this page: take fewer samples or "
                "steps, or a smaller picture, or run certes restore"
            )


def _stated_size(path: Path) -> tuple[int, int] | None:
    """Height and width by the header."""
    from PIL import Image

    from certes.data import tiff

    try:
        if tiff.is_tiff(path):
            return _tiff_size(path)
        with Image.open(path) as picture:
            return picture.height, picture.width
    except Exception:  # decoders raise anything at damaged files; the reader says what is wrong
        return None


def _tiff_size(path: Path) -> tuple[int, int]:
    from tifffile import TiffFile

    with TiffFile(path) as file:
        page = file.pages.first
        return page.imagelength, page.imagewidth
