r"""The lossless end: every 8-bit pixel from the Gaussian that the chain leaves of it.

The discretised decoder of DDPM (Ho et al. 2020, eq. 13) as a table of whole numbers, with a floor,
so that no pixel is impossible. Pixels go in a random order: a stream that ends early fixes a share
of them everywhere.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from certes.errors import InputError
from certes.generation.codec import alphabets
from certes.generation.codec.codebook import Floats, Integers, permutation
from certes.generation.codec.portable import Belief
from certes.generation.codec.symbols import SymbolReader, SymbolWriter

GREY = 255
ORDER_KEY = 0
# A pixel told to a grey level is known but for the rounding, a uniform of one level.
PIXEL_GAIN = 12.0 * GREY**2
BLOCK = 4096  # pixels coded at once
_SUB = 16  # means are told apart in sixteenths of a grey level
_TOTAL, _FLOOR = 2**20, 8  # of the frequencies of a pixel
_DEVIATION = (1 / 16, 256.0)  # grey levels


class PixelModel:
    """The frequencies of the grey levels of every pixel.

    Args:
        belief: what both sides think when the chain ends.
    """

    def __init__(self, belief: Belief) -> None:
        mean = np.rint(np.clip(belief.mean, 0, 1) * (GREY * _SUB)).astype(np.int64)
        self._level, self._part = np.divmod(mean, _SUB)
        # Grey levels are 255 to the image unit; the logarithm stays in whole 1/128.
        self._log_variance = belief.log_variance
        self.count = len(mean)

    def frequencies(self, pixels: Integers) -> Floats:
        """Of the 256 levels at each of ``pixels``, whole numbers, shape (n, 256)."""
        kinds = np.stack([self._log_variance[pixels] * 128, self._part[pixels]], axis=1)
        distinct, kind = np.unique(kinds.astype(np.int64), axis=0, return_inverse=True)
        tables = np.stack([_cumulative(int(v), int(part)) for v, part in distinct])
        edges = GREY + 1 + np.arange(1, GREY + 1) - self._level[pixels][:, None]
        inner = tables[kind.reshape(-1, 1), edges]
        total = np.full((len(pixels), 1), _TOTAL)
        return np.diff(inner, axis=1, prepend=0 * total, append=total).astype(np.float64) + _FLOOR


@lru_cache(maxsize=2**14)
def _cumulative(log_variance: int, part: int) -> NDArray[np.int32]:
    """The distribution at ``-255.5, ..., 256.5`` levels about the whole part of the mean."""
    from scipy import special  # pyright: ignore[reportMissingTypeStubs]

    deviation = np.clip(GREY * np.exp2(log_variance / 256), *_DEVIATION)
    edges = np.arange(-GREY - 1, GREY + 2) - 0.5 - part / _SUB
    return np.rint(special.ndtr(edges / deviation) * _TOTAL).astype(np.int32)


def write_pixels(writer: SymbolWriter, levels: Integers, belief: Belief) -> float:
    """Write the grey levels of a picture; returns the bits that its model asks for."""
    model, bits = PixelModel(belief), 0.0
    for pixels in _blocks(model.count):
        frequencies, symbols = model.frequencies(pixels), levels[pixels]
        writer.write(symbols, frequencies)
        writer.write(_check(symbols), alphabets.checks(alphabets.CHECK_OF_PIXELS))
        share = frequencies[np.arange(len(pixels)), symbols] / frequencies.sum(axis=1)
        bits -= float(np.log2(share).sum())
    return bits


def read_pixels(reader: SymbolReader, belief: Belief) -> tuple[Integers, Integers]:
    """Read grey levels as far as the stream goes: which pixels, and their levels.

    Raises:
        InputError: if they are not those that were sent.
    """
    model = PixelModel(belief)
    levels = np.zeros(0, dtype=np.int64)
    for pixels in _blocks(model.count):
        block = reader.read_certain(len(pixels), model.frequencies(pixels))
        levels = np.concatenate([levels, block])
        if len(block) < len(pixels):
            break
        sent = reader.read_certain(1, alphabets.checks(alphabets.CHECK_OF_PIXELS))
        if len(sent) and not np.array_equal(sent, _check(block)):
            raise InputError(
                "stream: the checksum of the lossless end differs: the file is damaged, or the "
                "sender's arithmetic was another; transfer the file again"
            )
    return permutation(ORDER_KEY, model.count)[: len(levels)], levels


def _check(levels: Integers) -> Integers:
    return np.array([zlib.crc32(levels.astype(np.uint8).tobytes()) % 2**alphabets.CHECK_OF_PIXELS])


def _blocks(count: int) -> Iterator[Integers]:
    order = permutation(ORDER_KEY, count)
    return (order[first : first + BLOCK] for first in range(0, count, BLOCK))
