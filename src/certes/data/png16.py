"""16-bit PNG with every bit of every channel, which Pillow keeps for grey alone.

Format: PNG specification, third edition (W3C 2025), sections 5 (chunks), 7 (filters), 11 (IHDR).
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from certes.data.raster import Raster
from certes.errors import InputError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_IHDR = struct.Struct(">IIBBBBB")
_GREY, _RGB, _GREY_ALPHA, _RGBA = 0, 2, 4, 6
_COLOUR_TYPES = {1: _GREY, 2: _GREY_ALPHA, 3: _RGB, 4: _RGBA}
_UP = 2


def is_png16(path: Path) -> bool:
    """Whether the file is a PNG with 16 bits per sample."""
    head = _head(path)
    return head.startswith(_SIGNATURE) and head[24:25] == b"\x10"


def read(path: Path, image: Image.Image) -> Raster:
    """Decode the 16-bit PNG at `path`, which Pillow has opened as `image`.

    Raises: InputError for a transparent colour, which 16-bit samples cannot be expanded with;
    Pillow's errors for damaged data.
    """
    if "transparency" in image.info:
        raise InputError(f"{path}: 16-bit with a transparent colour: save it with alpha instead")
    colour_type = _head(path)[25]
    if colour_type == _GREY:
        return Raster(np.asarray(image).astype(np.uint16)[..., None], has_alpha=False)
    if colour_type == _GREY_ALPHA:
        return Raster(_grey_alpha(path.read_bytes()), has_alpha=True)
    high, low = (_bytes(path, image.mode, order) for order in "BL")
    return Raster(high.astype(np.uint16) << 8 | low, has_alpha=colour_type == _RGBA)


def write(path: Path, raster: Raster) -> None:
    """Write uint16 samples (H, W, C) as a 16-bit PNG."""
    height, width, channels = raster.samples.shape
    header = _IHDR.pack(width, height, 16, _COLOUR_TYPES[channels], 0, 0, 0)
    rows = raster.samples.astype(">u2").view(np.uint8).reshape(height, -1)
    filtered = np.empty((height, rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = _UP
    filtered[:, 1:] = np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1]))
    data = zlib.compress(filtered.tobytes(), 6)
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")
    path.write_bytes(_SIGNATURE + chunks)


def _head(path: Path) -> bytes:
    """The signature and as much of the first chunk as says bit depth (24) and colour type (25)."""
    with path.open("rb") as file:
        return file.read(26)


def _bytes(path: Path, mode: str, order: str) -> NDArray[np.uint8]:
    """The high ("B") or low ("L") byte of each sample.

    Pillow takes the more significant byte of each pair. Told that the file is little-endian, which
    PNG never is, it takes the other one.
    """
    with Image.open(path, formats=("PNG",)) as image:
        image.tile = [tile._replace(args=f"{mode};16{order}") for tile in image.tile]
        return np.asarray(image)


def _grey_alpha(content: bytes) -> NDArray[np.uint16]:
    """Grey and alpha of 16 bits lie in a PNG exactly as RGBA of 8 bits: read them as that."""
    start = len(_SIGNATURE) + 8
    width, height, _, _, *rest = _IHDR.unpack_from(content, start)
    header = _IHDR.pack(width, height, 8, _RGBA, *rest)
    behind = content[start + _IHDR.size + 4 :]
    with Image.open(io.BytesIO(_SIGNATURE + _chunk(b"IHDR", header) + behind)) as image:
        pairs = np.ascontiguousarray(np.asarray(image)).view(">u2")
    return pairs.astype(np.uint16)


def _chunk(name: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + checksum
