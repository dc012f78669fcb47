"""Sampling at any resolution: the right law, one function for one seed, codes that count."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from certes.diffusion.bases import CosineBasis
from certes.diffusion.noise import NoiseSource, stream_seeds
from certes.diffusion.solvers.sampling import ReverseChain
from certes.diffusion.solvers.state import State
from certes.errors import InputError
from certes.function_space.mollifier import Mollifier
from certes.function_space.noise import CoupledNoise
from certes.function_space.sampling import draw_at, sample_functions

from .conftest import Make
from .exact_field import FIELD, MEAN, network

CHAIN = ReverseChain(steps=6)


def coefficients(x: Tensor) -> Tensor:
    return CosineBasis().forward(x.double() - MEAN)


@pytest.mark.parametrize(("pitch", "shape"), [(0.5, (12, 16)), (1.0, (8, 12))])
def test_law_of_a_field(pitch: float, shape: tuple[int, int]) -> None:
    seeds = stream_seeds(0, [str(i) for i in range(150)])
    chain = ReverseChain(steps=40)

    def low_ratio(denoiser_pitch: float) -> float:
        denoiser = FIELD.denoiser(Mollifier(0.75), denoiser_pitch)
        *_, last = draw_at(denoiser, (1, *shape), CoupledNoise(seeds), chain, pitch)
        power = coefficients(last.x).square().mean(dim=(0, 1))
        return float((power / FIELD.power(shape, pitch))[:4, :4].mean())

    assert low_ratio(pitch) == pytest.approx(1, abs=0.1)
    # A denoiser of other pixels draws another law.
    assert abs(low_ratio(4 * pitch) - 1) > 0.3


def test_one_seed_is_one_function() -> None:
    coarse = sample_functions(network(), (10, 14), count=3, seed=4, chain=CHAIN)
    low = coefficients(coarse)

    def apart(fine: Tensor) -> float:
        shared = coefficients(fine)[..., :10, :14] / 3
        return float((shared - low).norm() / low.norm())

    fine = sample_functions(network(), (30, 42), 1 / 3, 3, 4, chain=CHAIN)
    assert apart(fine) < 0.01
    assert apart(sample_functions(network(), (30, 42), 1 / 3, 3, 5, chain=CHAIN)) > 0.5
    # Noise that is drawn pixel by pixel is another function's.
    seeds = stream_seeds(4, [f"function/{i}" for i in range(3)])
    uncoupled = draw_at(
        network().at(1 / 3), (1, 30, 42), NoiseSource(seeds), CHAIN, 1 / 3, center=MEAN
    )
    *_, last = uncoupled
    assert apart(last.x) > 0.5


def test_a_picture_is_its_own_affair(make: Make) -> None:
    model = make()
    both = sample_functions(model, (16, 20), count=2, seed=1, chain=CHAIN)
    alone = sample_functions(model, (16, 20), count=1, seed=1, chain=CHAIN)
    torch.testing.assert_close(both[:1], alone, atol=1e-5, rtol=0)
    assert both.shape == (2, 1, 16, 20)
    assert 0 <= float(both.min()) <= float(both.max()) <= 1


def test_codes_are_told(make: Make) -> None:
    model = make()
    codes = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))

    def drawn(code: Tensor | None) -> Tensor:
        return sample_functions(model, (16, 16), count=2, code=code, chain=CHAIN)

    each, first = drawn(codes), drawn(codes[:1])
    torch.testing.assert_close(each[0], first[0], atol=1e-5, rtol=0)
    assert (each[1] - first[1]).abs().max() > 1e-4
    assert (each - drawn(None)).abs().max() > 1e-4


def test_progress(make: Make) -> None:
    seen: list[State] = []
    sample_functions(make(), (16, 16), chain=CHAIN, callback=seen.append)
    assert len(seen) == 6
    assert seen[-1].t == 0


def test_refuses(make: Make) -> None:
    with pytest.raises(InputError, match="pitch"):
        sample_functions(make(), (16, 16), pitch=0)
    with pytest.raises(InputError, match="shape"):
        sample_functions(make(), (0, 16))
    with pytest.raises(InputError, match="3 codes for 2 pictures"):
        sample_functions(make(), (16, 16), count=2, code=torch.zeros(3, 32))
