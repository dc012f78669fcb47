"""The chain that sender and receiver walk alike; only where its noise comes from differs.

A codec is a sampler whose noise is told: :func:`walk` is ancestral sampling in pixels, and asks a
:class:`Channel` for the noise of every step. That of the sender chooses it so that the chain leads
to the picture, and writes which; that of the receiver reads it.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from jaxtyping import Float
from torch import Tensor

from certes.generation.codec.chunks import UNIT, Chunks, cut
from certes.generation.codec.codebook import Floats
from certes.generation.codec.plan import PlannedStep
from certes.generation.codec.portable import Belief, Opinion, PortableDenoiser, quantum


class StreamEndError(Exception):
    """A channel has nothing more to give: its budget is spent, or its stream ends."""


@dataclass(frozen=True)
class ChainStep:
    r"""The reverse step :math:`p(x_s | x_t) = N(a x_t + b \hat x_0, \sigma_q^2 + b^2 D)`.

    Args:
        key: its number.
        x: where it starts, ``x_t``; flat, image units.
        t, s: noise levels before (infinite: nothing was told yet) and after.
        belief: what both sides think at ``x_t``.
    """

    key: int
    x: Floats
    t: float
    s: float
    belief: Belief

    @property
    def b(self) -> float:
        """The weight of the clean picture."""
        return 1 - (self.s / self.t) ** 2

    @property
    def noise(self) -> float:
        """Deviation of ``q(x_s | x_t, x_0)``."""
        return self.s * math.sqrt(self.b)

    @cached_property
    def ratio(self) -> Floats:
        r"""The variance of ``p`` in that of ``q``: :math:`1 + D (1/s^2 - 1/t^2)`."""
        return 1 + np.exp2(self.belief.log_variance) * (self.b / self.s**2)

    @cached_property
    def chunks(self) -> Chunks:
        """What an index tells at a time."""
        expected = np.rint(np.log2(self.ratio) / (2 * UNIT)).astype(np.int64)
        return cut(expected, self.key)

    def arrive(self, z: Floats) -> Floats:
        """``x_s`` for standard normal noise, on the grid of that level."""
        unit = quantum(self.s)
        mean = (1 - self.b) * self.x + self.b * self.belief.mean
        return np.rint((mean + self.noise * np.sqrt(self.ratio) * z) / unit) * unit


class Channel(Protocol):
    """Where noise comes from. Every method may raise :class:`StreamEndError`."""

    def settle(self, opinion: Opinion, level: float, gain: float) -> Belief:
        """Agree on a grid and round to it, and on how far this picture's variances are off.

        The grid is that of ``level``; ``gain`` is how much of ``1 / noise^2`` is to be learned.
        """
        ...

    def noise(self, step: ChainStep) -> Floats:
        """The noise of a step, standard normal under ``p``."""
        ...

    def check(self, key: int, digest: int, bits: int) -> None:
        """Compare the last ``bits`` of a checksum of the state."""
        ...


@dataclass(frozen=True)
class ChainState:
    """Where the chain stands.

    Args:
        steps: how many have been made.
        level: noise level, image units; infinite before the first step.
        x: the picture at that level, flat, image units.
        opinion: what is thought of the clean picture.
        estimate: that as pictures (b, c, h, w), float64.
    """

    steps: int
    level: float
    x: Floats
    opinion: Opinion
    estimate: Float[Tensor, "b c h w"]


def walk(
    denoiser: PortableDenoiser, steps: Sequence[PlannedStep], channel: Channel
) -> Iterator[ChainState]:
    """Walk down the plan as far as the channel goes; the first state is that before any step."""
    opinion, level = denoiser.start(), math.inf
    x = np.zeros_like(opinion.mean)
    yield ChainState(0, level, x, opinion, denoiser.picture(opinion.mean))
    for key, planned in enumerate(steps, start=1):
        try:
            gain = planned.level**-2 - level**-2
            belief = channel.settle(opinion, planned.level, gain)
            step = ChainStep(key, x, level, planned.level, belief)
            x, level = step.arrive(channel.noise(step)), planned.level
            channel.check(key, digest(x), planned.check_bits)
        except StreamEndError:
            return
        opinion = denoiser(x, level)
        yield ChainState(key, level, x, opinion, denoiser.picture(opinion.mean))


def digest(values: Floats) -> int:
    """A 32-bit checksum of numbers."""
    # Adding zero makes -0 and 0 the same.
    return zlib.crc32((values + 0.0).astype("<f8").tobytes())
