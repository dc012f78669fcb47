"""The receiving side of the chain: noise is read."""

from __future__ import annotations

import numpy as np

from certes.errors import InputError
from certes.generation.codec import alphabets
from certes.generation.codec.chain import ChainState, ChainStep, StreamEndError
from certes.generation.codec.codebook import Floats, Integers
from certes.generation.codec.portable import SCALES, Belief, Opinion
from certes.generation.codec.representation import chosen
from certes.generation.codec.symbols import SymbolReader
from certes.generation.codec.tail import PIXEL_GAIN, read_pixels


class Receiver:
    """The channel that reads the noise.

    Args:
        reader: of the stream.
    """

    def __init__(self, reader: SymbolReader) -> None:
        self.reader = reader
        self._scale = 0

    def settle(self, opinion: Opinion, level: float, gain: float) -> Belief:
        (shift,) = self.reader.read(1, alphabets.shifts())
        (index,) = self.reader.read(1, alphabets.scales(self._scale))
        self._scale = SCALES[int(index)]
        return opinion.settle(level, int(shift)).scaled(self._scale)

    def noise(self, step: ChainStep) -> Floats:
        indices = self.reader.read(step.chunks.count, alphabets.indices(step.chunks))
        return chosen(indices, step.chunks, step.key)

    def check(self, key: int, digest: int, bits: int) -> None:
        """Raise InputError if sender and receiver have come apart."""
        (sent,) = self.reader.read(1, alphabets.checks(bits))
        if int(sent) != digest % 2**bits:
            raise InputError(
                f"stream: the checksum of step {key} differs: the file is damaged, or the sender's "
                "model or arithmetic was another; transfer the file again, or decode it with the "
                "sender's version of model and program"
            )

    def pixels(self, state: ChainState) -> tuple[Integers, Integers]:
        """Read the lossless tail as far as it goes: which pixels, and their grey levels.

        Raises:
            InputError: if they are not those that were sent.
        """
        try:
            belief = self.settle(state.opinion, state.level, PIXEL_GAIN)
        except StreamEndError:
            empty = np.zeros(0, dtype=np.int64)
            return empty, empty
        return read_pixels(self.reader, belief)
