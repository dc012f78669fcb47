"""Files spoiled in every way that files are spoiled in: by chance, and by somebody who knows them.

What knows a format keeps its checksums and lengths right, so that the damage reaches the code
behind them. All choices come from the generator that is handed in.
"""

from __future__ import annotations

import binascii
import json
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

Random = random.Random
Mutation = Callable[[bytes, Random], bytes]

_NUMBERS = (0, 1, 2, 7, 8, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
_LEAVES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 16, 10**6, 2**31, 2**64, -(2**63)),
    *(0.0, -0.0, 0.5, 1.0, 1e-30, 1e30, 1e308, float("nan"), float("inf"), -float("inf")),
    *("", "abc", "\x00", "ä" * 9, "1", [], {}, [0], [[1, 2], [3]], {"kind": "box"}, [None]),
)
_FLOATS = (float("nan"), float("inf"), -float("inf"), 1e38, -1e38, 1e-45, 0.0)
_PNG_START = 8


def mutated(name: str, content: bytes, rng: Random) -> bytes:
    """Spoil a file, whose kind its name tells, once or a few times."""
    known = _OF_SUFFIX.get(PurePath(name).suffix, ())
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        mutation = rng.choice(known if known and rng.random() < 0.6 else _ANY)
        content = mutation(content, rng)
    return content


def _flipped(content: bytes, rng: Random) -> bytes:
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        if data:
            data[_place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(data)


def _cut(content: bytes, rng: Random) -> bytes:
    return content[: _place(content, rng)]


def _longer(content: bytes, rng: Random) -> bytes:
    return content + rng.randbytes(rng.choice((1, 4, 100, 5000)))


def _without(content: bytes, rng: Random) -> bytes:
    start = _place(content, rng)
    return content[:start] + content[start + rng.choice((1, 2, 4, 16, 200)) :]


def _repeated(content: bytes, rng: Random) -> bytes:
    start, length = _place(content, rng), rng.choice((1, 4, 16, 200))
    return content[: start + length] + content[start:]


def _number(content: bytes, rng: Random) -> bytes:
    """An odd number where some number may stand."""
    code = rng.choice(("<H", ">H", "<I", ">I", "<Q", ">Q", "B"))
    packed = struct.pack(code, rng.choice(_NUMBERS) & (256 ** struct.calcsize(code) - 1))
    start = _place(content, rng)
    return content[:start] + packed + content[start + len(packed) :]


def _spliced(content: bytes, rng: Random) -> bytes:
    """Its own middle in another place."""
    a, b = _place(content, rng), _place(content, rng)
    length = rng.choice((4, 32, 500))
    return content[:a] + content[b : b + length] + content[a + length :]


def _zeroed(content: bytes, rng: Random) -> bytes:
    start, length = _place(content, rng), rng.choice((4, 64, 1000))
    part = content[start : start + length]
    return content[:start] + bytes(len(part)) + content[start + len(part) :]


def _nothing(content: bytes, rng: Random) -> bytes:
    return rng.choice((b"", b"\0", content[:1], b"\0" * 100, b"{}", b"[]", b"null"))


def _place(content: bytes | bytearray, rng: Random) -> int:
    """Anywhere; in half of all cases among the first bytes, where files say what they are."""
    size = max(1, len(content))
    return rng.randrange(min(size, 200) if rng.random() < 0.5 else size)


# PNG: chunks with their own checksums.


def _png(content: bytes, rng: Random) -> bytes:
    chunks = _chunks(content)
    if not chunks:
        return content
    chosen = rng.randrange(len(chunks))
    name, data = chunks[chosen]
    match rng.randrange(5):
        case 0:
            del chunks[chosen]
        case 1:
            chunks.insert(rng.randrange(len(chunks)), (name, data))
        case 2:
            chunks[chosen] = (rng.choice((b"IDAT", b"PLTE", b"tRNS", b"acTL", b"eXIf")), data)
        case 3:
            chunks[0] = (b"IHDR", _number(chunks[0][1], rng)[:13].ljust(13, b"\0"))
        case _:
            spoilt = rng.choice((_flipped, _cut, _number, _longer))(data, rng)
            chunks[chosen] = (name, spoilt)
    return content[:_PNG_START] + b"".join(_chunk(*chunk) for chunk in chunks)


def _png_pixels(content: bytes, rng: Random) -> bytes:
    """Other scanlines behind a proper compression; or a picture that says it is huge."""
    header = next((d for n, d in _chunks(content) if n == b"IHDR" and len(d) == 13), None)
    if header is None:
        return content
    size = rng.choice(
        ((3, 3), (8, 8), (16, 16), (1, 2**20), (300, 300), (9000, 9000), (2**31 - 1, 1))
    )
    odd = struct.pack(">II", *size) + header[8:]
    rows = zlib.compress(bytes(rng.choice((0, 1, 300, 10**6))))
    parts = ((b"IHDR", odd), (b"IDAT", rows), (b"IEND", b""))
    return content[:_PNG_START] + b"".join(_chunk(*part) for part in parts)


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    chunks: list[tuple[bytes, bytes]] = []
    at = _PNG_START
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += length + 12
    return chunks


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


# TIFF: an entry of a directory with another type, count or value.


def _tiff(content: bytes, rng: Random) -> bytes:
    order = "<" if content[:2] == b"II" else ">"
    big = content[2:3] == b"\x2b" or content[3:4] == b"\x2b"
    offset_code, count_code, size = ("Q", "Q", 20) if big else ("I", "H", 12)
    try:
        (start,) = struct.unpack_from(order + offset_code, content, 8 if big else 4)
        (entries,) = struct.unpack_from(order + count_code, content, start)
        first = start + struct.calcsize(count_code)
        at = first + size * rng.randrange(max(1, entries))
        tag, kind = struct.unpack_from(order + "HH", content, at)
    except struct.error:
        return content
    value = rng.choice(_NUMBERS)
    match rng.randrange(4):
        case 0:
            entry = struct.pack(order + "HH", rng.choice((tag, 256, 258, 277, 279, 325, 700)), kind)
        case 1:
            entry = struct.pack(order + "HH", tag, rng.randrange(20))
        case 2:
            entry = struct.pack(order + "HH" + offset_code, tag, kind, value)
        case _:
            whole = content[at : at + 4 + struct.calcsize(offset_code)]
            entry = whole + struct.pack(order + offset_code, value)
    return content[:at] + entry + content[at + len(entry) :]


# JSON: a value of another kind, a key that is gone, a nest without end.


def _json(content: bytes, rng: Random) -> bytes:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return content
    return json.dumps(_other(value, rng)).encode()


def _nested(content: bytes, rng: Random) -> bytes:
    depth = rng.choice((50, 990, 100_000))
    return rng.choice((b"[", b'{"a":')) * depth


def _other(value: Any, rng: Random) -> Any:
    """Spoil a leaf, or a branch, of a tree."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        if rng.random() < 0.15:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: _other(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        i = rng.randrange(len(value))
        if rng.random() < 0.3:
            return value[:i] + value[i : i + 1] * rng.choice((0, 2, 5)) + value[i + 1 :]
        return [*value[:i], _other(value[i], rng), *value[i + 1 :]]
    if type(value) in (int, float) and rng.random() < 0.5:
        return value * rng.choice((-1, 0, 0.5, 2, 3, 1000, 10**9))
    return rng.choice(_LEAVES)


# safetensors: a header of JSON behind its length, then numbers.


def _safetensors(content: bytes, rng: Random) -> bytes:
    header, data = _parted(content)
    if header is None:
        return content
    if rng.random() < 0.5:
        return _joined(_other(header, rng), data)
    names = [name for name in header if name != "__metadata__"]
    entry = header[rng.choice(names)] if names else None
    try:
        start, end = map(int, entry["data_offsets"])  # pyright: ignore[reportOptionalSubscript]
        start, end = max(start, 0), min(end, len(data))
        at = rng.randrange(start, end, 4)
    except (TypeError, KeyError, ValueError, OverflowError):  # spoiled before
        return content
    odd = struct.pack("<f", rng.choice(_FLOATS))
    whole = bytearray(data)
    if rng.random() < 0.5:
        whole[at : at + 4] = odd
    else:
        whole[start:end] = (odd * ((end - start) // 4 + 1))[: end - start]
    return _joined(header, bytes(whole))


def _safetensors_words(content: bytes, rng: Random) -> bytes:
    """Words of the header that hold JSON themselves."""
    header, data = _parted(content)
    words = (header or {}).get("__metadata__")
    if not isinstance(words, dict) or not words or header is None:
        return content
    key = rng.choice(sorted(words))
    spoilt = _json(str(words[key]).encode(), rng).decode()
    return _joined({**header, "__metadata__": {**words, key: spoilt}}, data)


def _parted(content: bytes) -> tuple[dict[str, Any] | None, bytes]:
    try:
        (length,) = struct.unpack_from("<Q", content)
        header = json.loads(content[8 : 8 + length])
    except (struct.error, ValueError, OverflowError, RecursionError):
        return None, b""
    return (header, content[8 + length :]) if isinstance(header, dict) else (None, b"")


def _joined(header: Any, data: bytes) -> bytes:
    words = json.dumps(header).encode()
    words += b" " * (-len(words) % 8)
    return struct.pack("<Q", len(words)) + words + data


# Compressed pictures: right checksums around anything.


def _stream(content: bytes, rng: Random) -> bytes:
    """Spoil the stream, and make its checksum right again."""
    body = content[:-4]
    at = rng.randrange(min(16, len(body)), len(body)) if len(body) > 16 else 0
    spoilt = body[:at] + rng.choice((_flipped, _number, _zeroed))(body[at:], rng)[: len(body) - at]
    return spoilt + zlib.crc32(spoilt).to_bytes(4, "little")


def _stream_header(content: bytes, rng: Random) -> bytes:
    """Another kind, size, number of steps or length, with the header's checksum made right."""
    at, fields = 5, list[int]()
    while len(fields) < 4 and at < len(content):
        number, shift = 0, 0
        while at < len(content):
            number |= (content[at] & 127) << shift
            shift, at = shift + 7, at + 1
            if content[at - 1] < 128:
                break
        fields.append(number)
    if len(fields) < 4:
        return content
    kind, chosen = content[4], rng.randrange(5)
    if chosen == 4:
        kind = rng.randrange(20)
    else:
        fields[chosen] = rng.choice((*_NUMBERS[:10], fields[chosen] + 1, fields[chosen] * 2, 8192))
    head = content[:4] + bytes([kind]) + b"".join(map(_varint, fields)) + content[at : at + 4]
    whole = head + binascii.crc_hqx(head, 0).to_bytes(2, "little") + content[at + 6 : -4]
    return whole + rng.choice((b"", zlib.crc32(whole).to_bytes(4, "little")))


def _varint(number: int) -> bytes:
    digits = [number & 127]
    while number := number >> 7:
        digits.append(number & 127)
    return bytes([*(digit | 128 for digit in digits[:-1]), digits[-1]])


_ANY: tuple[Mutation, ...] = (
    *(_flipped, _flipped, _cut, _longer, _without, _repeated, _number, _number, _spliced, _zeroed),
    _nothing,
)
_OF_SUFFIX: dict[str, tuple[Mutation, ...]] = {
    ".png": (_png, _png, _png, _png_pixels),
    ".tif": (_tiff,),
    ".json": (_json, _json, _json, _json, _json, _nested),
    ".safetensors": (_safetensors, _safetensors_words),
    ".crt": (_stream, _stream_header),
}
