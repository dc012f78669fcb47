"""Operator networks whose answers are known: linear in the cosine basis, or in pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from torch import Tensor, nn

from certes.diffusion.bases import CosineBasis
from certes.diffusion.schedules import Cosine
from certes.function_space.config import OperatorConfig
from certes.function_space.coordinates import Points
from certes.function_space.denoiser import FunctionDenoiser
from certes.function_space.mollifier import Mollifier, squared_frequencies
from certes.function_space.presets import operator_keys
from certes.function_space.reading import Reading

CONFIG = OperatorConfig(**operator_keys(32, [16, 16], grid=16), outputs=1)
SCALE = 0.25

Answer = Callable[[Tensor, float, float], Tensor]
"""From the blurred noisy picture (network units), its level and its pitch to E[T z0 | T z]."""


class StubOperator(nn.Module):
    """Answers with noise, so that what it says of T z0 is what it is told to say."""

    def __init__(self, answer: Answer, reading: Reading) -> None:
        super().__init__()
        self.lift = nn.Linear(1, 1)
        self.answer, self.reading = answer, reading

    def forward(self, seen: Tensor, points: Points, time: Tensor, code: Tensor | None) -> Tensor:
        lattice, reading = points.lattice, self.reading
        t = time[:1].double() / 1000
        level = float(reading.level(t))
        ratio = level * reading.deviation(lattice).to(seen)
        picture = points.picture(seen)
        blurred = picture * (1 + ratio**2).sqrt()
        clean = self.answer(blurred, level, lattice.pitch)
        return ((blurred - clean) / ratio).flatten(2).transpose(1, 2)


class StubNetwork(nn.Module):
    """As much of an autoencoder as a denoiser looks at."""

    encoder = None

    def __init__(self, answer: Answer, reading: Reading) -> None:
        super().__init__()
        self.config = CONFIG
        self.operator = StubOperator(answer, reading)


def stub_denoiser(answer: Answer, width: float = 0.75) -> FunctionDenoiser:
    """A denoiser of functions whose network says so."""
    reading = Reading(Cosine(), Mollifier(width), "noise", center=0.5, scale=SCALE)
    return FunctionDenoiser(cast(Any, StubNetwork(answer, reading)), reading)


def in_cosines(gain: Callable[[Tensor, float], Tensor]) -> Answer:
    """The same operator on functions at every resolution: a gain for each squared frequency."""

    def answer(blurred: Tensor, level: float, pitch: float) -> Tensor:
        squared = squared_frequencies((blurred.shape[-2], blurred.shape[-1]), pitch)
        basis = CosineBasis()
        return basis.inverse(basis.forward(blurred) * gain(squared, level).to(blurred))

    return answer
