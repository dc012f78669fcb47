r"""Reverse channel coding: an index that tells a sample of :math:`q` to whoever knows :math:`p`.

The Poisson functional representation (Li and El Gamal 2018; as a codec for diffusion models, Theis
et al. 2022 and Vonderfecht and Liu 2025): candidates :math:`z_k \sim p` arrive at the times
:math:`T_k` of a Poisson process, and that of the least :math:`T_k\, p(z_k) / q(z_k)` is a sample of
:math:`q`. Its index is small when :math:`q` is close to :math:`p`.
Candidates end after :math:`K`, which pulls samples towards :math:`p`; so the sender aims beyond the
mean of :math:`q`, and what is still missing the next step, which starts at what was sent, makes up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certes.generation.codec.chunks import Chunks
from certes.generation.codec.codebook import Codebook, Floats, Integers

# Numbers held at once: of the codebook, and of the chunks that are matched with it.
_BLOCK = 2**22
# How far beyond the mean is aimed: candidates are 8 times the expected, and samples fall short by a
# seventh. Half of that bias costs less than the bits of aiming at all of it.
AIM = 1.1


@dataclass(frozen=True)
class Gap:
    r"""How :math:`q = N(shift, (ratio)^2)` lies to :math:`p = N(0, 1)`, value by value.

    Args:
        shift: of the mean, in deviations of ``p``.
        ratio: deviation of ``q`` in those of ``p``, at most 1.
    """

    shift: Floats
    ratio: Floats

    @property
    def bits(self) -> float:
        r""":math:`KL(q \| p)`: what an ideal channel needs."""
        nats = (self.ratio**2 + self.shift**2 - 1) / 2 - np.log(self.ratio)
        return float(nats.sum()) / math.log(2)

    @property
    def linear(self) -> Floats:
        """The weight of ``z`` in ``log q(z) / p(z)``."""
        return self.shift / self.ratio**2

    @property
    def quadratic(self) -> Floats:
        """The weight of ``z^2`` in it."""
        return (1 - self.ratio**-2) / 2


def choose(gap: Gap, chunks: Chunks, key: int, times: np.random.Generator) -> Integers:
    """The index of a sample of ``q`` for every chunk.

    Args:
        gap: between ``q`` and ``p``.
        chunks: of the step.
        key: of the step's codebook.
        times: draws the arrival times; the receiver need not know them.
    """
    book = Codebook(key, chunks.width)
    signs = np.empty(len(chunks.order))
    signs[chunks.order] = chunks.sign
    together = max(1, _BLOCK // chunks.width)
    parts: list[Integers] = []
    for first in range(0, chunks.count, together):
        last = min(first + together, chunks.count)
        linear = chunks.gather(AIM * gap.linear * signs, first, last).astype(np.float32)
        quadratic = chunks.gather(gap.quadratic, first, last).astype(np.float32)
        parts.append(_first_arrivals(book, linear, quadratic, chunks.candidates, times))
    return np.concatenate(parts)


def _first_arrivals(
    book: Codebook,
    linear: NDArray[np.float32],
    quadratic: NDArray[np.float32],
    candidates: int,
    times: np.random.Generator,
) -> Integers:
    count = linear.shape[1]
    best, index, time = np.full(count, np.inf), np.zeros(count, np.int64), np.zeros(count)
    height = max(1, _BLOCK // max(book.width, count))
    for first in range(0, candidates, height):
        rows = book.rows(first, min(height, candidates - first))
        arrivals = time + np.cumsum(times.standard_exponential((len(rows), count)), axis=0)
        scores = np.log(arrivals) - rows @ linear - np.square(rows) @ quadratic
        winner = scores.argmin(axis=0)
        score = scores[winner, np.arange(count)]
        index = np.where(score < best, first + winner, index)
        best, time = np.minimum(best, score), arrivals[-1]
    return index


def chosen(indices: Integers, chunks: Chunks, key: int) -> Floats:
    """The sample, standard normal under ``p``, that the indices tell."""
    book = Codebook(key, chunks.width)
    rows = np.concatenate([book.rows(int(index), 1) for index in indices])
    return chunks.scatter(rows.astype(np.float64))
