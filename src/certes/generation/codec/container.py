"""The file: a header that says what is needed to read on, the stream, a checksum of everything.

::

    magic and version   4 bytes   "CRT" 1
    kind                1 byte    sample type, grey or RGB, with or without the lossless tail
    height, width       varints
    steps               varint    of the chain
    length              varint    bytes of the stream
    model               4 bytes   hash of model and rates
    check               2 bytes   CRC-16 of the header so far
    stream              length bytes
    check               4 bytes   CRC-32 of the file so far

A file of full length is verified before anything is decoded; a shorter one is a stream that ends
early.
"""

from __future__ import annotations

import binascii
import zlib
from dataclasses import dataclass

from certes.data.raster import MAX_PIXELS, SampleType
from certes.errors import InputError

MAGIC = b"CRT\x01"
_DEPTHS: tuple[SampleType, ...] = ("uint8", "uint16", "float32")
_RGB, _TAIL = 4, 8
_MOST_DIGITS = 5  # of a varint, base 128


@dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Args:
        dtype: sample type of the picture's file.
        channels: 1 or 3.
        height, width: pixels.
        steps: of the chain.
        tail: whether the lossless tail follows.
        length: bytes of the stream.
        model: hash of the model and its rates, 4 bytes.
    """

    dtype: SampleType
    channels: int
    height: int
    width: int
    steps: int
    tail: bool
    length: int
    model: bytes

    def pack(self) -> bytes:
        """The header's bytes."""
        kind = _DEPTHS.index(self.dtype) + _RGB * (self.channels == 3) + _TAIL * self.tail
        numbers = (self.height, self.width, self.steps, self.length)
        head = MAGIC + bytes([kind]) + b"".join(map(_varint, numbers)) + self.model
        return head + binascii.crc_hqx(head, 0).to_bytes(2, "little")


@dataclass(frozen=True)
class Container:
    """A file taken apart.

    Args:
        header: what it says of itself.
        stream: its stream, or what there is of it.
    """

    header: Header
    stream: bytes

    @property
    def complete(self) -> bool:
        """Whether nothing of the stream is missing."""
        return len(self.stream) == self.header.length

    def pack(self) -> bytes:
        """The file."""
        content = self.header.pack() + self.stream
        return content + zlib.crc32(content).to_bytes(4, "little")


def overhead(header: Header) -> int:
    """Bytes of the file around the stream."""
    return len(header.pack()) + 4


def unpack(data: bytes) -> Container:
    """Take a file apart, whole or cut anywhere after its header.

    Raises:
        InputError: if it is no such file, cut in its header, or damaged.
    """
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise InputError("stream: not a compressed picture of this version of certes (.crt)")
    header, size = _read_header(data)
    end = size + header.length
    if len(data) > end + 4:
        raise InputError("stream: longer than its header says: damaged, transfer the file again")
    if len(data) == end + 4 and zlib.crc32(data[:end]).to_bytes(4, "little") != data[end:]:
        raise InputError("stream: damaged (its checksum differs); transfer the file again")
    return Container(header, data[size:end])


def _read_header(data: bytes) -> tuple[Header, int]:
    """The header, and how many bytes it takes."""
    at, numbers = len(MAGIC) + 1, list[int]()
    while len(numbers) < 4:
        number, at = _read_varint(data, at)
        numbers.append(number)
    end = at + 6
    if len(data) < end:
        raise _cut()
    if binascii.crc_hqx(data[: at + 4], 0).to_bytes(2, "little") != data[at + 4 : end]:
        raise InputError("stream: its header is damaged; transfer the file again")
    kind, (height, width, steps, length) = data[len(MAGIC)], numbers
    known = kind < 2 * _TAIL and kind % _RGB < len(_DEPTHS)
    if not known or min(height, width) < 1 or height * width > MAX_PIXELS:
        raise InputError(f"stream: kind {kind}, {height} x {width} pixels: cannot be decoded")
    channels = 3 if kind & _RGB else 1
    dtype, tail = _DEPTHS[kind % _RGB], bool(kind & _TAIL)
    header = Header(dtype, channels, height, width, steps, tail, length, data[at : at + 4])
    return header, end


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; the highest bit says that more follow."""
    digits = [number & 127]
    while number := number >> 7:
        digits.append(number & 127)
    return bytes([*(digit | 128 for digit in digits[:-1]), digits[-1]])


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for i in range(_MOST_DIGITS):
        if at + i >= len(data):
            raise _cut()
        number |= (data[at + i] & 127) << 7 * i
        if data[at + i] < 128:
            return number, at + i + 1
    raise InputError("stream: its header is damaged; transfer the file again")


def _cut() -> InputError:
    return InputError("stream: cut inside its header, so that nothing of it can be read")
