"""Reproducible noise: one independent stream for every item of a batch.

A sample depends on its own seed alone, never on what else was drawn in its batch, so that batches
may be split, merged and reordered without changing a single picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def stream_seeds(seed: int, keys: Sequence[str]) -> list[int]:
    """One 63-bit seed for each key: unrelated for different keys, the same on every machine.

    Args:
        seed: the user's seed.
        keys: what names each stream, for instance ``"3/0"`` for sample 3 of picture 0.
    """
    return [_digest(f"{seed}:{key}") for key in keys]


def _digest(text: str) -> int:
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class NoiseSource:
    """Standard normal streams, one for each seed.

    Args:
        seeds: one for each item of the batch, each in [0, 2^63).
        device: where the noise is drawn. Streams of different devices differ.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        self._streams = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __len__(self) -> int:
        return len(self._streams)

    def normal(
        self, shape: Sequence[int], dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, " b *shape"]:
        """The next draw of every stream.

        Args:
            shape: the shape of one item.
            dtype: the precision in which it is drawn.
        """
        draws = [
            torch.randn(tuple(shape), generator=stream, dtype=dtype, device=stream.device)
            for stream in self._streams
        ]
        return torch.stack(draws)
