"""The sending side of the chain: noise is chosen so that it leads to the picture."""

from __future__ import annotations

import numpy as np

from certes.generation.codec import alphabets
from certes.generation.codec.chain import ChainState, ChainStep, StreamEndError
from certes.generation.codec.codebook import Floats
from certes.generation.codec.portable import SCALES, Belief, Opinion
from certes.generation.codec.representation import Gap, choose, chosen
from certes.generation.codec.symbols import SymbolWriter
from certes.generation.codec.tail import GREY, PIXEL_GAIN, write_pixels

_TIMES_SEED = 0


class Sender:
    """The channel that chooses the noise, and writes which; what the budget forbids, it unwrites.

    Args:
        x0: the picture, flat, image units.
        budget: bits that may be written.
    """

    def __init__(self, x0: Floats, budget: float) -> None:
        self.x0 = x0
        self.budget = budget
        self.writer = SymbolWriter()
        self.ideal = 0.0
        """Bits that ideal channels would have needed for what was written."""
        self._mark = self.writer.mark()
        self._step_bits = 0.0
        self._scale = 0
        self._times = np.random.default_rng(_TIMES_SEED)

    def settle(self, opinion: Opinion, level: float, gain: float) -> Belief:
        self._mark = self.writer.mark()
        shift = opinion.best_shift(level)
        self.writer.write(np.array([shift]), alphabets.shifts())
        belief = opinion.settle(level, shift)
        scale = belief.best_scale(self.x0, gain)
        self.writer.write(np.array([SCALES.index(scale)]), alphabets.scales(self._scale))
        self._scale = scale
        return belief.scaled(scale)

    def noise(self, step: ChainStep) -> Floats:
        deviation = step.noise * np.sqrt(step.ratio)
        gap = Gap(step.b * (self.x0 - step.belief.mean) / deviation, step.ratio**-0.5)
        self._step_bits = gap.bits
        indices = choose(gap, step.chunks, step.key, self._times)
        self.writer.write(indices, alphabets.indices(step.chunks))
        return chosen(indices, step.chunks, step.key)

    def check(self, key: int, digest: int, bits: int) -> None:
        self.writer.write(np.array([digest % 2**bits]), alphabets.checks(bits))
        self._keep(self._step_bits)

    def pixels(self, state: ChainState) -> bool:
        """Write the lossless tail if the budget allows; whether it did."""
        levels = np.rint(self.x0 * GREY).astype(np.int64)
        try:
            self._keep(
                write_pixels(
                    self.writer, levels, self.settle(state.opinion, state.level, PIXEL_GAIN)
                )
            )
        except StreamEndError:
            return False
        return True

    def _keep(self, ideal: float) -> None:
        if self.writer.bits > self.budget:
            self.writer.rewind(self._mark)
            raise StreamEndError
        self.ideal += ideal
