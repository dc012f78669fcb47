"""One continuous range-coded stream of symbols, and what is certain of it when its end is missing.

A range coder writes a number whose leading digits are the first symbols. Where the end of the
stream is missing, it is read twice, as if all missing bytes were 0 and as if they were 255: symbols
on which both readings agree are those of every ending in between, and so of the true one.
Probabilities are whole numbers, so that both sides build the very same model.
"""

from __future__ import annotations

import itertools
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certes.errors import InputError
from certes.generation.codec.chain import StreamEndError
from certes.generation.codec.codebook import Floats, Integers

_WORD = 4  # bytes
# Missing bytes that are filled in: a reader looks no more than eight ahead of what is certain.
_AHEAD = 16
Symbols = NDArray[np.int32]


class SymbolWriter:
    """Writes symbols."""

    def __init__(self) -> None:
        stream = _constriction().stream
        self._models = stream.model
        self._encoder = stream.queue.RangeEncoder()

    @property
    def bits(self) -> int:
        """The length of the stream if it ended here."""
        return self._encoder.num_bits()

    def mark(self) -> Any:
        """What :meth:`rewind` takes back to here."""
        return self._encoder.clone()

    def rewind(self, mark: Any) -> None:
        """Forget what was written since a mark."""
        self._encoder = mark.clone()

    def write(self, symbols: Integers, frequencies: Floats) -> None:
        """Write symbols of one model (frequencies (n,)) or of one each (frequencies (m, n))."""
        _code(self._models, self._encoder.encode, frequencies, symbols.astype(np.int32))

    def finish(self) -> bytes:
        """The stream."""
        return np.asarray(self._encoder.get_compressed()).astype(">u4").tobytes()


class SymbolReader:
    """Reads symbols.

    Args:
        data: the stream, or its first bytes.
        length: how many bytes it has where none is missing.
    """

    def __init__(self, data: bytes, length: int) -> None:
        stream = _constriction().stream
        self._models = stream.model
        fills = (b"\x00", b"\xff") if len(data) < length else (b"\x00",)
        self._decoders = [stream.queue.RangeDecoder(_words(data, length, f)) for f in fills]

    def read(self, count: int, frequencies: Floats) -> Integers:
        """Read ``count`` symbols of one model, or of one each.

        Raises:
            StreamEndError: if the missing end leaves one of them open.
            InputError: if there is no such stream.
        """
        symbols = self.read_certain(count, frequencies)
        if len(symbols) < count:
            raise StreamEndError
        return symbols

    def read_certain(self, count: int, frequencies: Floats) -> Integers:
        """Read ``count`` symbols, or as many of them as are certain.

        Raises:
            InputError: if there is no such stream.
        """
        readings = [self._read(decoder, count, frequencies) for decoder in self._decoders]
        differ = np.flatnonzero(readings[0] != readings[-1])
        return readings[0][: differ[0]] if len(differ) else readings[0]

    def _read(self, decoder: Any, count: int, frequencies: Floats) -> Integers:
        before = decoder.clone()
        try:
            return self._decoded(decoder, count, frequencies)
        except AssertionError as error:  # what constriction raises on impossible streams
            if len(self._decoders) == 1:
                raise InputError("stream: damaged; transfer the file again") from error
        # No sender writes this ending: from some symbol on it says nothing.
        nothing = -1 - self._decoders.index(decoder)
        return np.concatenate([self._possible(before, count, frequencies), [nothing] * count])[
            :count
        ]

    def _possible(self, decoder: Any, count: int, frequencies: Floats) -> Integers:
        """The symbols before the impossible one."""
        symbols: list[int] = []
        rows = frequencies if frequencies.ndim == 2 else itertools.repeat(frequencies, count)
        for row in rows:
            try:
                symbols.append(int(self._decoded(decoder, 1, row)[0]))
            except AssertionError:
                break
        return np.array(symbols, dtype=np.int64)

    def _decoded(self, decoder: Any, count: int, frequencies: Floats) -> Integers:
        amount = () if frequencies.ndim == 2 else (count,)
        symbols = _code(self._models, decoder.decode, frequencies, *amount)
        return np.asarray(symbols).astype(np.int64)


def _constriction() -> Any:
    return import_module("constriction")


def _code(models: Any, code: Any, frequencies: Floats, *first: Any) -> Any:
    """Call ``code`` with a model of its frequencies, which are whole numbers below 2^24 in all."""
    if frequencies.ndim == 2:
        return code(*first, models.Categorical(perfect=False), frequencies.astype(np.float32))
    model = models.Categorical(frequencies.astype(np.float32), perfect=False)
    # Encoders take (symbols, model), decoders (model, count).
    return code(*first, model) if isinstance(first[0], np.ndarray) else code(model, *first)


def _words(data: bytes, length: int, fill: bytes) -> NDArray[np.uint32]:
    # The first byte of a word is its highest: what a cut leaves of it counts most.
    whole = data[:length] + fill * min(max(0, length - len(data)), _AHEAD)
    whole += b"\x00" * (-len(whole) % _WORD)
    return np.frombuffer(whole, dtype=">u4").astype(np.uint32)
