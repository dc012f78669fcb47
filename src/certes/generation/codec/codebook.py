r"""Common randomness: what sender and receiver draw alike on every machine.

All of it comes from the raw 64-bit words of PCG64, whose stream numpy keeps, through integer
arithmetic: normals are looked up in a table of :math:`2^{16}` quantiles, rounded to multiples of
:math:`2^{-12}`, because the last digit of a library's normals is nobody's promise.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_QUANTUM = 2.0**-12
# What a stream of words is for; part of its seed.
_NORMALS, _SIGNS, _ORDER = range(3)


@lru_cache(maxsize=1)
def normal_table() -> NDArray[np.int16]:
    """The quantiles ``(i + 1/2) / 2^16`` of the standard normal in units of ``2^-12``."""
    from scipy import special  # pyright: ignore[reportMissingTypeStubs]

    return np.rint(special.ndtri((np.arange(2**16) + 0.5) / 2**16) / _QUANTUM).astype(np.int16)


def normals(key: int, count: int) -> Floats:
    """Standard normals, multiples of ``2^-12``."""
    return _normals(_words((_NORMALS, key), -(-count // 4)), 1, count)[0] * _QUANTUM


class Codebook:
    """Candidates for the noise of one step: rows of standard normals, any of them at once.

    Args:
        key: the step; another key, another codebook.
        width: numbers in a row.
    """

    def __init__(self, key: int, width: int) -> None:
        self.key = key
        self.width = width
        self._stride = max(1, -(-width // 4))  # 64-bit words for a row

    def rows(self, first: int, count: int) -> NDArray[np.float32]:
        """Rows ``first`` to ``first + count``; exact in float32."""
        words = _words((_NORMALS, self.key), count * self._stride, skip=first * self._stride)
        table = _normals(words, count, self.width)
        return table.astype(np.float32) * np.float32(_QUANTUM)


def signs(key: int, count: int) -> NDArray[np.int8]:
    """Independent signs, +1 or -1."""
    bits = np.unpackbits(_words((_SIGNS, key), -(-count // 64)).view(np.uint8))[:count]
    return 1 - 2 * bits.astype(np.int8)


def permutation(key: int, count: int) -> Integers:
    """A random order of ``count`` things."""
    return np.argsort(_words((_ORDER, key), count), kind="stable").astype(np.int64)


def _words(key: tuple[int, int], count: int, skip: int = 0) -> NDArray[np.uint64]:
    """Raw words, little-endian."""
    generator = np.random.PCG64(key)
    generator.advance(skip)
    return np.asarray(generator.random_raw(count)).astype("<u8")


def _normals(words: NDArray[np.uint64], rows: int, width: int) -> NDArray[np.int16]:
    return normal_table()[words.view("<u2").reshape(rows, -1)[:, :width]]
