"""Streams that were cut, changed, or made elsewhere: a coarser picture or a clear error."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from certes.diffusion.denoiser import Denoised, Denoiser
from certes.errors import CertesError, InputError
from certes.generation import codec
from certes.generation.codec.chain import ChainState, walk
from certes.generation.codec.container import unpack
from certes.generation.codec.receiver import Receiver
from certes.generation.codec.setting import make_setting
from certes.generation.codec.symbols import SymbolReader

from .codec_case import pictures, source

SIDE = 16
Sent = tuple[Tensor, bytes]


@pytest.fixture(scope="module")
def sent() -> Sent:
    denoiser, rates = source(SIDE)
    (picture,) = pictures(1, SIDE)
    return picture, codec.encode(picture, denoiser, rates=rates).data


@pytest.fixture(scope="module")
def states(sent: Sent) -> list[ChainState]:
    """The chain of the whole stream."""
    denoiser, rates = source(SIDE)
    container = unpack(sent[1])
    shared = make_setting(denoiser, rates, (1, SIDE, SIDE))
    receiver = Receiver(SymbolReader(container.stream, container.header.length))
    steps = shared.plan.steps[: container.header.steps]
    return list(walk(shared.denoiser(), steps, receiver))


def decode(data: bytes) -> codec.Decoded:
    denoiser, rates = source(SIDE)
    return codec.decode(data, denoiser, rates=rates)


def one_line(error: pytest.ExceptionInfo[CertesError]) -> bool:
    return "\n" not in str(error.value) and str(error.value).startswith(("stream:", "model:"))


def test_a_thousand_cuts(sent: Sent, states: list[ChainState]) -> None:
    """Every prefix is a picture on the way, and a longer one is never a worse one."""
    picture, data = sent
    generator = random.Random(0)
    kept = sorted(generator.randrange(len(data)) for _ in range(1000))
    reached: list[tuple[int, int]] = []
    header = data.index(unpack(data).stream)
    for length in kept:
        if length < header:
            with pytest.raises(InputError, match="header") as error:
                decode(data[:length])
            assert one_line(error)
            continue
        got = decode(data[:length])
        state = states[got.steps]
        assert torch.equal(got.knowledge.x[0].flatten(), torch.from_numpy(state.x).float())
        known = got.knowledge.known[0]
        assert torch.equal(got.estimate[known], picture[known])
        expected = state.estimate[0].clamp(0, 1).float()
        assert torch.equal(got.estimate[~known], expected[~known])
        reached.append((got.steps, int(known.sum())))
    assert reached == sorted(reached)
    assert reached[0][0] < 2
    # What is missing is a few bytes' worth, not more.
    assert reached[-1] == (len(states) - 1, SIDE**2)
    assert len({steps for steps, _ in reached}) > len(states) / 2
    assert len({pixels for _, pixels in reached}) > SIDE**2 / 4


def test_a_thousand_changed_bytes(sent: Sent) -> None:
    picture, data = sent
    generator = random.Random(1)
    for _ in range(1000):
        changed = bytearray(data)
        changed[generator.randrange(len(data))] ^= generator.randrange(1, 256)
        with pytest.raises(CertesError) as error:
            decode(bytes(changed))
        assert one_line(error)
    assert torch.equal(decode(data).estimate, picture)


def test_changed_and_cut(sent: Sent, states: list[ChainState]) -> None:
    """No checksum of the whole is left: those of the steps must notice, sooner or later."""
    _, data = sent
    generator, noticed, wrong = random.Random(2), 0, 0
    header = data.index(unpack(data).stream)
    for _ in range(300):
        changed = bytearray(data[:-5])
        at = generator.randrange(header, header + 10)
        changed[at] ^= generator.randrange(1, 256)
        try:
            got = decode(bytes(changed))
        except InputError as error:
            noticed += bool(re.search(r"checksum of step \d+ differs|damaged", str(error)))
        else:
            x = torch.from_numpy(states[got.steps].x).float()
            wrong += not torch.equal(got.knowledge.x[0].flatten(), x)
    assert noticed > 290
    assert wrong < 5


def test_noise_is_no_stream(sent: Sent) -> None:
    generator = random.Random(3)
    for length in range(200):
        noise = generator.randbytes(length)
        for data in (noise, sent[1][:4] + noise, sent[1] + noise[:length]):
            if data == sent[1]:
                continue
            with pytest.raises(InputError) as error:
                decode(data)
            assert one_line(error)


def test_a_header_that_promises_too_much_takes_no_memory(sent: Sent) -> None:
    container = unpack(sent[1])
    huge = replace(container, header=replace(container.header, length=2**34))
    got = decode(huge.pack())
    assert not got.complete
    assert torch.equal(got.estimate, sent[0])


class Another(Denoiser):
    """A machine whose arithmetic differs in the last digits."""

    def __init__(self, size: float) -> None:
        self.exact, self.size = source(SIDE)[0], size

    def __call__(self, x: Tensor, sigma: Tensor) -> Denoised:
        denoised = self.exact(x, sigma)
        generator = torch.Generator().manual_seed(int(1e6 * float(sigma[0])))
        error = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        return Denoised(denoised.mean * (1 + self.size * error), denoised.variance)

    def covariance(self, denoised: Denoised, sigma: Tensor):
        return self.exact.covariance(denoised, sigma)


def test_another_arithmetic_is_named(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser, rates = source(SIDE)
    monkeypatch.setattr("certes.generation.codec.setting.Setting.hash", "same")
    data = codec.encode(sent[0], denoiser, rates=rates).data
    # What float64 loses is absorbed, and a hundred times that.
    same = codec.decode(data, Another(1e-13), rates=rates)
    assert torch.equal(same.estimate, sent[0])
    # Negative control: larger errors than the margins are caught.
    with pytest.raises(InputError, match=r"checksum of step \d+ differs: .*arithmetic was another"):
        codec.decode(data, Another(1e-2), rates=rates)
