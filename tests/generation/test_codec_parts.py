"""The codec's parts, each against what it must do."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
import torch

from certes.diffusion.likelihood import log_probability
from certes.diffusion.rates import RateCurve
from certes.errors import InputError
from certes.generation.codec import alphabets
from certes.generation.codec.chain import StreamEndError
from certes.generation.codec.chunks import BITS, UNIT, Chunks, cut
from certes.generation.codec.codebook import Codebook, normal_table, normals, permutation, signs
from certes.generation.codec.container import Container, Header, unpack
from certes.generation.codec.plan import make_plan
from certes.generation.codec.portable import Belief, Opinion, quantum
from certes.generation.codec.representation import Gap, choose, chosen
from certes.generation.codec.symbols import SymbolReader, SymbolWriter
from certes.generation.codec.tail import PixelModel, read_pixels, write_pixels

RNG = np.random.default_rng(0)


# Common randomness.


def test_the_table_of_normals_is_part_of_the_format() -> None:
    table = normal_table()
    assert np.array_equal(table, -table[::-1])
    z = table / 2**12
    assert np.square(z).mean() == pytest.approx(1, abs=1e-3)
    assert np.power(z, 4).mean() == pytest.approx(3, abs=0.02)
    # Another table would make other pictures of the same files.
    assert zlib.crc32(table.astype("<i2").tobytes()) == 0x546C8CB1
    assert zlib.crc32(normals(3, 5).astype("<f8").tobytes()) == 0x99B7AC22


def test_rows_of_a_codebook_do_not_depend_on_how_they_are_asked_for() -> None:
    book = Codebook(5, 7)
    rows = book.rows(0, 10)
    assert rows.shape == (10, 7)
    assert np.array_equal(book.rows(6, 3), rows[6:9])
    assert not np.array_equal(Codebook(6, 7).rows(0, 10), rows)
    many = book.rows(0, 4000)
    assert many.mean() == pytest.approx(0, abs=0.03)
    assert many.std() == pytest.approx(1, abs=0.03)


def test_signs_and_orders_are_fair() -> None:
    drawn = signs(1, 10001)
    assert set(drawn.tolist()) == {-1, 1}
    assert abs(drawn.mean()) < 0.05
    order = permutation(1, 1000)
    assert sorted(order.tolist()) == list(range(1000))
    assert abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 0.1
    assert not np.array_equal(order, permutation(2, 1000))


# The plan.


def power_law(exponent: float) -> RateCurve:
    levels = torch.logspace(-3, 1, 33, dtype=torch.float64)
    mse = 0.05 * (levels / 10) ** exponent
    return RateCurve(levels, mse, (255 * mse.sqrt() * 4.13 + 1).log2())


@pytest.mark.parametrize("count", [64, 3072, 2**20])
@pytest.mark.parametrize("exponent", [0.5, 1.2])
def test_the_plan_spends_little_more_than_the_ideal(count: int, exponent: float) -> None:
    rates = power_law(exponent)
    plan = make_plan(rates, count)
    levels = [step.level for step in plan.steps]
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] >= 1e-3
    end = plan.steps[plan.lossless - 1]
    ideal = float(rates.rate(end.level))
    # Steps of a tiny picture are long, because an index of a few bits is dear.
    assert ideal < end.rate < (1.2 if count > 64 else 2.1) * ideal
    # The end is where the whole is least.
    totals = [1.2 * s.rate + float(rates.tail_at(s.level)) for s in plan.steps]
    assert plan.lossless == 1 + int(np.argmin(totals))


# Chunks.


def test_chunks_share_the_content_evenly() -> None:
    expected = np.rint(RNG.exponential(0.02, 20000) / UNIT).astype(np.int64)
    chunks = cut(expected, key=4)
    assert np.array_equal(np.sort(chunks.order), np.arange(20000))
    parts = np.split(expected[chunks.order] * UNIT, chunks.starts[1:-1])
    content = np.array([part.sum() for part in parts])
    assert chunks.bits <= BITS
    np.testing.assert_allclose(content, chunks.bits, atol=0.3)
    # Nothing at all is one chunk of it.
    assert cut(np.zeros(9, np.int64), key=1).count == 1


def test_scatter_undoes_gather() -> None:
    chunks = cut(RNG.integers(0, 2**17, 500), key=2)
    values = RNG.standard_normal(500)
    table = chunks.gather(values, 0, chunks.count)
    assert table.shape == (chunks.width, chunks.count)
    mirrored = chunks.scatter(table.T)
    signs_ = np.empty(500)
    signs_[chunks.order] = chunks.sign
    np.testing.assert_array_equal(mirrored, values * signs_)
    parts = [chunks.gather(values, i, i + 1) for i in range(chunks.count)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), table)


# The channel.


def gap_of(bits: float, count: int, seed: int) -> tuple[Gap, Chunks]:
    """``count`` values that carry ``bits`` in all."""
    ratio = 4 ** (bits / count)
    shift = np.random.default_rng(seed).standard_normal(count) * math.sqrt(1 - 1 / ratio)
    gap = Gap(shift, np.full(count, ratio**-0.5))
    return gap, cut(np.full(count, round(bits / count / UNIT)), seed)


def projection(z: np.ndarray, gap: Gap) -> float:
    """How much of the mean is in a sample: 1 for an ideal channel."""
    return float(z @ gap.shift / (gap.shift @ gap.shift))


@pytest.fixture(scope="module")
def many() -> tuple[Gap, Chunks, np.ndarray]:
    gap, chunks = gap_of(3600, 60000, seed=7)
    return gap, chunks, choose(gap, chunks, 7, np.random.default_rng(1))


def test_samples_follow_the_sender(many: tuple[Gap, Chunks, np.ndarray]) -> None:
    gap, chunks, indices = many
    assert gap.bits == pytest.approx(chunks.bits * chunks.count, rel=0.03)
    z = chosen(indices, chunks, 7)
    # Candidates end at 8 times what is expected, and the sender aims beyond the mean for that.
    assert 0.89 < projection(z, gap) < 1.02
    residual = z - gap.shift * projection(z, gap)
    assert np.square(residual).mean() == pytest.approx(gap.ratio[0] ** 2, rel=0.02)
    # Negative control: another codebook tells nothing.
    assert abs(projection(chosen(indices, chunks, 8), gap)) < 0.15


def test_more_candidates_fall_less_short(monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[float] = []
    monkeypatch.setattr("certes.generation.codec.representation.AIM", 1.0)
    for padding in (3, 8):
        monkeypatch.setattr("certes.generation.codec.chunks.PADDING", padding)
        told = 0.0
        for key in range(80):
            gap, chunks = gap_of(6.0, 100, key)
            indices = choose(gap, chunks, key, np.random.default_rng(key))
            told += projection(chosen(indices, chunks, key), gap) / 80
        shares.append(told)
    assert 0.8 < shares[0] < shares[1] < 1.1
    assert shares[1] > 0.95


def test_indices_cost_what_they_tell(many: tuple[Gap, Chunks, np.ndarray]) -> None:
    gap, chunks, indices = many
    writer, frequencies = SymbolWriter(), alphabets.indices(chunks)
    writer.write(indices, frequencies)
    assert writer.bits < 1.15 * gap.bits
    reader = SymbolReader(writer.finish(), len(writer.finish()))
    assert np.array_equal(reader.read(chunks.count, frequencies), indices)
    # Zipf's law is what makes them cheap.
    flat = SymbolWriter()
    flat.write(indices, np.ones_like(frequencies))
    assert flat.bits > 1.1 * writer.bits


def test_small_portions_do_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    gap, chunks = gap_of(40, 400, seed=3)
    monkeypatch.setattr("certes.generation.codec.representation._BLOCK", 2 * chunks.width)
    z = chosen(choose(gap, chunks, 7, np.random.default_rng(1)), chunks, 7)
    assert 0.6 < projection(z, gap) < 1.3


# Symbols.


def test_symbols_come_back_and_can_be_taken_back() -> None:
    rows = RNG.integers(1, 1000, (50, 256)).astype(np.float64)
    pixels, one = RNG.integers(0, 256, 50), np.array([3.0, 1.0, 5.0])
    writer = SymbolWriter()
    writer.write(np.array([2, 0, 1, 2]), one)
    mark, before = writer.mark(), writer.bits
    writer.write(np.array([1] * 100), one)
    writer.rewind(mark)
    assert writer.bits == before
    writer.write(pixels, rows)
    data = writer.finish()
    reader = SymbolReader(data, len(data))
    assert reader.read(4, one).tolist() == [2, 0, 1, 2]
    assert np.array_equal(reader.read(50, rows), pixels)


def test_what_is_certain_of_a_cut_stream_is_true() -> None:
    frequencies = np.array([200.0, 30.0, 20.0, 5.0, 1.0])
    lost: list[float] = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        symbols = rng.choice(5, 400, p=frequencies / frequencies.sum())
        writer = SymbolWriter()
        writer.write(symbols, frequencies)
        data = writer.finish()
        for kept in rng.integers(0, len(data), 5).tolist():
            certain = SymbolReader(data[:kept], len(data)).read_certain(400, frequencies)
            assert np.array_equal(certain, symbols[: len(certain)])
            lost.append(kept * 8 - len(certain) * writer.bits / 400)
    # No more than a few symbols at the cut stay open.
    assert np.mean(lost) < 24
    with pytest.raises(StreamEndError):
        SymbolReader(b"", 8).read(1, frequencies)


# Agreement on numbers.


def test_a_value_at_a_border_shifts_the_grid() -> None:
    level, rng = 0.1, np.random.default_rng(3)
    mean = rng.random(1000)
    unit = quantum(level)
    mean[17] = (round(mean[17] / unit) + 0.5) * unit
    there = Opinion(mean + 1e-14, np.full(1000, -8.01))
    here = Opinion(mean - 1e-14, np.full(1000, -8.01))
    # Negative control: without a shift the two machines come apart.
    assert not np.array_equal(there.settle(level, 0).mean, here.settle(level, 0).mean)
    shift = there.best_shift(level)
    assert shift > 0
    assert np.array_equal(there.settle(level, shift).mean, here.settle(level, shift).mean)
    assert there.margin(level, shift) > 1e-5


def test_rounding_is_fine_against_the_noise() -> None:
    level, rng = 0.03, np.random.default_rng(4)
    opinion = Opinion(rng.random(1000), rng.uniform(-20, -2, 1000))
    for shift in range(8):
        belief = opinion.settle(level, shift)
        assert np.abs(belief.mean - opinion.mean).max() <= level / 128
        assert np.abs(belief.log_variance - opinion.log_variance).max() <= 1 / 32 + 1e-12


# Pixels.


def belief(count: int, deviation: float) -> Belief:
    mean = np.rint(RNG.uniform(-0.02, 1.02, count) * 2**14) / 2**14
    return Belief(mean, np.full(count, round(2 * math.log2(deviation) * 128) / 128))


@pytest.mark.parametrize("deviation", [0.0003, 0.004, 0.05, 0.8])
def test_pixels_cost_what_the_discretised_decoder_says(deviation: float) -> None:
    known = belief(3000, deviation)
    clipped = np.clip(known.mean, 0, 1)
    levels = np.rint(255 * np.clip(clipped + deviation * RNG.standard_normal(3000), 0, 1))
    writer = SymbolWriter()
    bits = write_pixels(writer, levels.astype(np.int64), known)
    x0, mean = (torch.from_numpy(v).reshape(1, 1, -1, 1) for v in (levels / 255, clipped))
    exact = float(-log_probability(x0, mean, torch.tensor(deviation).double()).sum())
    assert bits == pytest.approx(exact / math.log(2), rel=0.02, abs=3000 * 0.01)
    assert bits <= writer.bits < bits + 96 + 0.002 * bits
    data = writer.finish()
    where, read = read_pixels(SymbolReader(data, len(data)), known)
    assert np.array_equal(levels[where], read)
    assert len(np.unique(where)) == 3000


def test_no_pixel_is_impossible() -> None:
    known = belief(100, 0.0001)
    frequencies = PixelModel(known).frequencies(np.arange(100))
    assert frequencies.shape == (100, 256)
    assert frequencies.min() >= 8
    assert frequencies.sum(axis=1).max() < 2**24
    assert np.log2(frequencies.sum(axis=1) / frequencies.min(axis=1)).max() < 18


# The file.

HEADER = Header("uint16", 3, 300, 70000 // 3, 41, False, 12345, b"abcd")


def test_headers_come_back() -> None:
    container = Container(HEADER, bytes(12345))
    assert unpack(container.pack()) == container
    assert container.complete
    cut_ = unpack(container.pack()[:-100])
    assert cut_.header == HEADER
    assert not cut_.complete
    # Without its last bytes, the file's checksum, the stream is whole all the same.
    assert unpack(container.pack()[:-1]).complete


def test_sizes_are_bounded() -> None:
    huge = Header("uint8", 1, 2**20, 2**20, 5, True, 2**30, b"abcd")
    with pytest.raises(InputError, match="cannot be decoded"):
        unpack(huge.pack())
