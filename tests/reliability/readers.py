"""The readers of files from elsewhere, and what they may do: read, or refuse in one line."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

from certes.data.measurements import read_measurement
from certes.data.pictures import read_picture
from certes.errors import CertesError
from certes.generation.codec import decode
from certes.intervals.cards import Calibration
from certes.networks.model import Model

Reader = Callable[[Path], object]

READERS: dict[str, Reader] = {
    "picture": read_picture,
    "measurement": read_measurement,
    "card": Calibration.load,
}


def stream_reader(model: Model) -> Reader:
    """Of compressed pictures."""
    return lambda path: decode(path.read_bytes(), model)


def believe(path: Path) -> None:
    """For negative controls: go from part to part of a PNG file as its lengths say."""
    content, at = path.read_bytes(), 8
    while path.suffix == ".png" and content[at + 4 : at + 8] != b"IEND":
        at += 12 + struct.unpack(">I", content[at : at + 4])[0]


def trusting(path: Path) -> object:
    """A reader that believes lengths."""
    believe(path)
    return read_picture(path)


def reads(read: Reader, path: Path) -> None:
    """Read a file that may be damaged; anything but an error of ours is passed on."""
    told = None
    try:
        read(path)
    except CertesError as error:
        told = str(error)
    except OSError as error:
        told = error.filename
    assert told is None or (told and "\n" not in str(told))
