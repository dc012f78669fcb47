"""Coupled noise: white, reproducible, and the same function at every resolution."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from certes.diffusion.bases import CosineBasis
from certes.diffusion.noise import NoiseSource
from certes.errors import InputError
from certes.function_space.mollifier import Mollifier
from certes.function_space.noise import CoupledNoise
from certes.function_space.process import MollifiedNoise


@pytest.mark.parametrize("finer", [2, 3, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_t8_resolutions_share_their_low_coefficients(finer: int, dtype: torch.dtype) -> None:
    """T8: draw by draw, on a rectangle that is cut from no band's end."""
    shape = (2, 13, 21)
    coarse, fine = CoupledNoise([3, 4]), CoupledNoise([3, 4])
    for _ in range(2):
        few = CosineBasis().forward(coarse.normal(shape, dtype))
        many = CosineBasis().forward(fine.normal((2, 13 * finer, 21 * finer), dtype))
        torch.testing.assert_close(many[..., :13, :21], few, rtol=1e-4, atol=1e-5)


def test_it_is_white() -> None:
    pixels = CoupledNoise([0]).normal((20000, 4, 5))[0].flatten(1).double()
    covariance = pixels.T @ pixels / len(pixels)
    assert float((covariance - torch.eye(20)).abs().max()) < 5 / math.sqrt(len(pixels))
    assert float(pixels.mean(0).abs().max()) < 5 / math.sqrt(len(pixels))


def test_bands_are_unrelated() -> None:
    """Also the bands that mirror each other, (i, j) and (j, i)."""
    c = CoupledNoise([0]).coefficients((100, 32, 32))[0].flatten(1).double()
    low, up, right, high = (
        c.reshape(100, 32, 32)[:, i : i + 16, j : j + 16].flatten()
        for i, j in ((0, 0), (0, 16), (16, 0), (16, 16))
    )
    between = torch.stack([low, up, right, high])
    assert float((torch.corrcoef(between) - torch.eye(4)).abs().max()) < 5 / math.sqrt(25600)


def test_draws_and_seeds_differ_and_batch_mates_do_not_matter() -> None:
    source = CoupledNoise([7, 8])
    first, second = source.normal((1, 6, 7)), source.normal((1, 6, 7))
    assert len(source) == 2
    assert not torch.allclose(first, second)
    assert not torch.allclose(first[0], first[1])
    alone = CoupledNoise([8])
    assert torch.equal(alone.normal((1, 6, 7))[0], first[1])
    assert torch.equal(alone.normal((1, 6, 7))[0], second[1])


def test_only_pictures_are_drawn() -> None:
    with pytest.raises(InputError, match=r"\(12,\).*\(c, h, w\)"):
        CoupledNoise([0]).normal((12,))


def coincident(source: type[NoiseSource], width: float) -> tuple[Tensor, Tensor]:
    """Mollified noise on a coarse grid, and there on one of a third of its pitch."""
    mollifier, seeds = Mollifier(width), range(4)
    coarse = MollifiedNoise(source(seeds), mollifier).normal((1, 48, 64))
    fine = MollifiedNoise(source(seeds), mollifier, 1 / 3).normal((1, 144, 192))
    return coarse, fine[..., 1::3, 1::3]


@pytest.mark.parametrize("width", [0.5, 0.75])
def test_t8_mollified_noise_agrees_up_to_its_aliased_energy(width: float) -> None:
    """T8: erfc(pi w) of it along each axis; noise of the same seeds that is not coupled does not
    agree at all."""
    along = math.erfc(math.pi * width)
    coarse, fine = coincident(CoupledNoise, width)
    apart = float((fine - coarse).square().mean() / fine.square().mean())
    assert apart == pytest.approx(1 - (1 - along) ** 2, rel=0.1)
    coarse, fine = coincident(NoiseSource, width)
    assert float((fine - coarse).square().mean() / fine.square().mean()) > 1.5


@pytest.mark.parametrize(("width", "energy"), [(0.5, 2.6e-2), (0.75, 8.6e-4), (1.0, 8.9e-6)])
def test_t8_aliased_energy(width: float, energy: float) -> None:
    """T8: the numbers, and the sums over modes that they stand for (a sum's ends count half)."""
    power = Mollifier(width).symbol((4096, 1), 1 / 16)[:, 0] ** 2
    beyond, whole = power[256:].sum() - power[256] / 2, power.sum() - power[0] / 2
    assert float(beyond / whole) == pytest.approx(energy, rel=0.02)
    assert math.erfc(math.pi * width) == pytest.approx(energy, rel=0.02)
