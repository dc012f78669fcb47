"""Noise streams: each item's own, whatever its batch."""

from __future__ import annotations

import torch

from certes.diffusion.noise import NoiseSource, stream_seeds

SEEDS = stream_seeds(0, ["a", "b", "c"])


def test_an_item_does_not_depend_on_its_batch_mates() -> None:
    together = NoiseSource(SEEDS)
    alone = NoiseSource(SEEDS[2:])
    backwards = NoiseSource(SEEDS[::-1])
    for _ in range(3):
        draw = together.normal((2, 3, 5))
        assert torch.equal(draw[2:], alone.normal((2, 3, 5)))
        assert torch.equal(draw.flip(0), backwards.normal((2, 3, 5)))


def test_shapes_and_precision() -> None:
    assert len(NoiseSource(SEEDS)) == 3
    assert NoiseSource(SEEDS).normal((1, 4), torch.float64).dtype == torch.float64
    assert NoiseSource(SEEDS).normal((1, 4)).shape == (3, 1, 4)


def test_streams_and_draws_are_independent_standard_normals() -> None:
    source = NoiseSource(stream_seeds(7, [str(i) for i in range(4)]))
    draws = torch.cat([source.normal((20_000,)), source.normal((20_000,))])
    # Correlations of 20000 pairs have standard deviation 1 / 141.
    assert (draws @ draws.T / 20_000 - torch.eye(8)).abs().max() < 5 / 141
    assert draws.mean(1).abs().max() < 5 / 141


def test_seeds_differ_by_seed_and_key_and_are_the_same_everywhere() -> None:
    seeds = [*stream_seeds(0, ["0", "1", "10"]), *stream_seeds(1, ["0"]), *stream_seeds(10, [""])]
    assert len(set(seeds)) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert stream_seeds(0, ["3/0"]) == [2335858817068468595]
