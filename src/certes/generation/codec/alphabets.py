"""How often each symbol comes: whole numbers, so that both sides build the very same model."""

from __future__ import annotations

import math

import numpy as np

from certes.generation.codec.chunks import Chunks
from certes.generation.codec.codebook import Floats
from certes.generation.codec.portable import SCALES, SHIFTS

_PRECISION = 22  # bits of the frequency of an index
_UNSHIFTED = 121  # of 128
# Of 256, by how far a scale is from that of the step before.
_MOVES = {0: 140, 1: 40, -1: 40, 2: 8, -2: 8}
# Where candidates end, large indices are commoner than the law says: saves 2 % of the indices.
_FLATTER = 0.15

CHECK_OF_PIXELS = 16
"""Bits of the checksum after every block of pixels of the lossless tail."""


def shifts() -> Floats:
    """Of the shift of a grid, which is hardly ever needed."""
    return np.array([_UNSHIFTED, *(1,) * (SHIFTS - 1)], dtype=np.float64)


def scales(before: int) -> Floats:
    """Of the scale of a picture's variances, which seldom changes from step to step."""
    return np.array([_MOVES.get(scale - before, 2) for scale in SCALES], dtype=np.float64)


def checks(bits: int) -> Floats:
    """Of a checksum."""
    return np.full(1 << bits, 1.0)


def indices(chunks: Chunks) -> Floats:
    """Of the index of a candidate: Zipf's law with the exponent of what a chunk carries.

    Source: Li and El Gamal 2018, theorem 1, for candidates without end.
    """
    exponent = 1 + 1 / (chunks.bits + math.log2(math.e) / math.e + 1) - _FLATTER
    weights = np.arange(1, chunks.candidates + 1, dtype=np.float64) ** -exponent
    return np.maximum(1, np.rint(weights / weights.sum() * 2**_PRECISION))
