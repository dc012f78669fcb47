"""Scattered pixels: the cosine series itself, an exact adjoint, and posteriors that are right."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import certes
from certes.diffusion.problems import GaussianProblem
from certes.errors import InputError
from certes.restoration.operators.scattered import ACCURACY, SampledAt

SHAPE = (3, 9, 14)


def problem(shape: tuple[int, int]) -> GaussianProblem:
    """Smooth pictures: squared-exponential, two pixels long."""
    rows, columns = torch.meshgrid(*map(torch.arange, shape), indexing="ij")
    places = torch.stack([rows.flatten(), columns.flatten()], dim=1).double()
    covariance = 0.09 * (-(torch.cdist(places, places) ** 2) / 8).exp()
    covariance += 1e-6 * torch.eye(len(places), dtype=torch.float64)
    return GaussianProblem(torch.full((1, *shape), 0.5, dtype=torch.float64), covariance)


def scattered(count: int, seed: int = 0, sides: tuple[int, int] = (9, 14)) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    unit = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    return unit * torch.tensor(sides)


def pictures(dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, *SHAPE, generator=generator, dtype=dtype)


def axis(positions: Tensor, size: int) -> Tensor:
    """Matrix from pixels to positions: the sum of the cosines, as it is written."""
    k = torch.arange(size, dtype=torch.float64)
    scale = torch.where(k == 0, math.sqrt(1 / size), math.sqrt(2 / size))

    def cosines(place: Tensor) -> Tensor:
        return scale * (math.pi * k * place[:, None] / size).cos()

    return cosines(positions) @ cosines(k + 0.5).T


def test_reads_the_cosine_series() -> None:
    corners = torch.tensor([[0.0, 0.0], [9.0, 14.0], [0.0, 14.0]], dtype=torch.float64)
    positions = torch.cat([scattered(60), corners])
    x = pictures()
    series = torch.einsum("mi,bcij,mj->bcm", axis(positions[:, 0], 9), x, axis(positions[:, 1], 14))
    read = SampledAt(SHAPE, positions)(x)
    assert (read - series).abs().max() < ACCURACY * x.abs().max()
    single = SampledAt(SHAPE, positions)(x.float())
    assert (single - series).abs().max() < ACCURACY * x.abs().max()
    # The test can tell half a pixel from none.
    moved = SampledAt(SHAPE, (positions - 0.5).clamp(min=0))(x)
    assert (moved - series).abs().max() > 0.1


def test_reads_pixels_at_their_centres() -> None:
    rows, columns = torch.meshgrid(torch.arange(9), torch.arange(14), indexing="ij")
    centres = torch.stack([rows, columns], dim=-1).reshape(-1, 2) + 0.5
    x = pictures()
    assert (SampledAt(SHAPE, centres)(x).reshape(x.shape) - x).abs().max() < ACCURACY * 5


def test_adjoint() -> None:
    operator, x = SampledAt(SHAPE, scattered(31)), pictures()
    y = torch.randn(2, 3, 31, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close((operator(x) * y).sum(), (x * operator.adjoint(y)).sum())


def test_posterior_of_scattered_pixels() -> None:
    shape, noise = (8, 9), 0.02
    positions = scattered(25, 3, shape)
    truth, operator = problem(shape), SampledAt((1, *shape), positions)
    x0 = truth.sample(1, 5)
    e = torch.randn(1, 1, 25, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    y = operator(x0) + noise * e
    mean, covariance = truth.posterior(y, operator, noise)
    spread = covariance.diagonal().sqrt().reshape(mean.shape)
    answer = certes.restore(y, operator, truth.denoiser(), noise=noise, samples=150, steps=30)

    def off(expected: Tensor) -> float:
        return float(((answer.mean - expected) / spread).square().mean().sqrt())

    assert off(mean) < 0.2
    ratio = (answer.std.square().mean() / spread.square().mean()).sqrt()
    assert 0.93 < float(ratio) < 1.07
    # Whoever takes pixels' corners for their centres gets another answer.
    wrong = SampledAt((1, *shape), (positions - 0.5).clamp(min=0))
    assert off(truth.posterior(y, wrong, noise)[0]) > 0.5


def test_says_what_it_is() -> None:
    operator = SampledAt(SHAPE, scattered(31))
    assert operator.describe()["known"] == pytest.approx(31 / (9 * 14), abs=1e-6)
    assert operator.name == "scattered"


@pytest.mark.parametrize(
    ("positions", "said"),
    [
        (torch.tensor([[1.0, 14.5]]), "outside of the picture"),
        (torch.tensor([[-0.1, 2.0]]), "outside of the picture"),
        (torch.zeros(0, 2), r"give \(M, 2\)"),
        (torch.zeros(3), r"give \(M, 2\)"),
    ],
)
def test_refuses(positions: Tensor, said: str) -> None:
    with pytest.raises(InputError, match=said):
        SampledAt(SHAPE, positions)
