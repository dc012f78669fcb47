"""How a step is cut into chunks: in pixel space, at random, each with the same expected content.

Coefficients of a transform would put much of a step into a few of them, more than one index can
tell; pixels in a random order share it out. Both sides know the variance of every pixel, hence what
it is expected to carry, and cut where the running sum, in whole numbers, says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from certes.generation.codec.codebook import Floats, Integers, permutation, signs

# Bits that one index carries, and how many more of them its range has: a chunk may hold more than
# was expected, and a sample that is not among the candidates is replaced by one less fitting.
BITS, PADDING = 12, 3
UNIT = 2.0**-20  # bits, of expected contents


@dataclass(frozen=True)
class Chunks:
    """A partition of the values of a picture.

    Args:
        order: the values, chunk after chunk.
        starts: where in ``order`` each chunk starts, and the end of the last.
        bits: what each is expected to carry.
        sign: +1 or -1 for each value of ``order``, so that chunks may share a codebook.
    """

    order: Integers
    starts: Integers
    bits: float
    sign: Integers

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.starts) - 1

    @property
    def candidates(self) -> int:
        """How many candidates an index chooses from."""
        return 2 ** (math.ceil(self.bits) + PADDING)

    @cached_property
    def width(self) -> int:
        """Values in the largest."""
        return int(np.diff(self.starts).max())

    @cached_property
    def chunk(self) -> Integers:
        """The chunk of each value of ``order``."""
        return np.repeat(np.arange(self.count), np.diff(self.starts))

    @cached_property
    def place(self) -> Integers:
        """The place of each value of ``order`` in its chunk."""
        return np.arange(len(self.order)) - self.starts[self.chunk]

    def gather(self, values: Floats, first: int, last: int) -> Floats:
        """``values`` of the chunks from ``first`` to ``last``, one column each; 0 fills up."""
        part = slice(self.starts[first], self.starts[last])
        table = np.zeros((self.width, last - first))
        table[self.place[part], self.chunk[part] - first] = values[self.order[part]]
        return table

    def scatter(self, rows: Floats) -> Floats:
        """The values in their own order from one row for each chunk, with their signs."""
        values = np.empty(len(self.order))
        values[self.order] = rows[self.chunk, self.place] * self.sign
        return values


def cut(expected: Integers, key: int) -> Chunks:
    """Cut values into as few chunks as may be that carry at most :data:`BITS` each, all the same.

    Args:
        expected: what each value is expected to carry, in units of :data:`UNIT` bits.
        key: of the step.
    """
    order = permutation(key, len(expected))
    running = np.cumsum(expected[order])
    total = int(running[-1])
    count = max(1, math.ceil(total * UNIT / BITS))
    edges = np.array([total * c // count for c in range(1, count)], dtype=np.int64)
    inner = np.searchsorted(running, edges, side="right")
    starts = np.concatenate([[0], inner, [len(order)]]).astype(np.int64)
    return Chunks(order, starts, total * UNIT / count, signs(key, len(order)).astype(np.int64))
