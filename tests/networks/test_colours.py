"""Colour pictures through a grey prior: exact where three independent grey Gaussians are."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from certes.diffusion.problems import GaussianProblem
from certes.diffusion.residuals import SpectralCovariance
from certes.errors import InputError
from certes.networks.colours import ColourDenoiser, apart, together
from certes.restoration.covariances import Jacobian

SIDE = 3
PIXELS = SIDE * SIDE
# Opponent colours, as the definition has them: brightness, red against blue, green against both.
T = torch.tensor(
    [[1, 1, 1], [1, 0, -1], [-1, 2, -1]], dtype=torch.float64
) / torch.tensor([[3], [2], [6]], dtype=torch.float64).sqrt()  # fmt: skip


def grey_problem() -> GaussianProblem:
    axis = torch.arange(SIDE, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    covariance = 0.04 * torch.exp(-(torch.cdist(points, points) ** 2) / 2)
    return GaussianProblem(torch.full((1, SIDE, SIDE), 0.5, dtype=torch.float64), covariance)


def colour_problem(colours: str) -> GaussianProblem:
    """The colour pictures that the wrapped grey prior means, written out densely."""
    K = grey_problem().covariance
    mean = torch.full((3, SIDE, SIDE), 0.5, dtype=torch.float64)
    if colours == "separate":
        return GaussianProblem(mean, torch.block_diag(K, K, K))
    # gain T x + offset is grey, gain = 1 / sqrt(3): x = sqrt(3) T^T (z - offset).
    turn = torch.kron(T, torch.eye(PIXELS, dtype=torch.float64))
    return GaussianProblem(mean, 3 * turn.T @ torch.block_diag(K, K, K) @ turn)


def noisy(count: int = 2) -> tuple[Tensor, Tensor]:
    x = torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)).double()
    return x, torch.linspace(0.05, 0.4, count, dtype=torch.float64)


@pytest.mark.parametrize("colours", ["opponent", "separate"])
def test_it_is_the_prior_that_it_says(colours: str) -> None:
    x, sigma = noisy()
    exact = colour_problem(colours).denoiser()
    known, found = exact(x, sigma), ColourDenoiser(grey_problem().denoiser(), colours)(x, sigma)
    torch.testing.assert_close(found.mean, known.mean, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.variance, known.variance, rtol=0, atol=1e-10)
    other = colour_problem({"opponent": "separate", "separate": "opponent"}[colours]).denoiser()
    assert float((other(x, sigma).mean - found.mean).abs().max()) > 1e-3


@pytest.mark.parametrize("colours", ["opponent", "separate"])
def test_the_covariance_too(colours: str) -> None:
    x, sigma = noisy()
    exact = colour_problem(colours).denoiser()
    denoiser = ColourDenoiser(grey_problem().denoiser(), colours)
    known = exact.covariance(exact(x, sigma), sigma)
    found = denoiser.covariance(denoiser(x, sigma), sigma)
    v, _ = noisy()
    torch.testing.assert_close(found.apply(v), known.apply(v), rtol=0, atol=1e-10)
    torch.testing.assert_close(found.diagonal(), known.diagonal(), rtol=0, atol=1e-10)


def test_one_number_of_variance_serves_every_pixel() -> None:
    """Covariances may say less than a variance for each pixel."""

    class Flat(type(grey_problem().denoiser())):
        def covariance(self, denoised, sigma):  # type: ignore[no-untyped-def]
            return SpectralCovariance(
                torch.full((1, 1, SIDE, SIDE), 0.01).double(), torch.ones(1, 1, 1, 1).double()
            )

    x, sigma = noisy()
    denoiser = ColourDenoiser(Flat(grey_problem()), "separate")
    diagonal = denoiser.covariance(denoiser(x, sigma), sigma).diagonal()
    torch.testing.assert_close(diagonal.expand(2, 3, SIDE, SIDE), torch.full_like(x, 0.01))


def test_the_jacobian_sees_through_it() -> None:
    x, sigma = noisy()
    exact = colour_problem("opponent").denoiser()
    denoiser = Jacobian(ColourDenoiser(grey_problem().denoiser(), "opponent"))
    v, _ = noisy()
    found = denoiser.covariance(denoiser(x, sigma), sigma).apply(v)
    known = exact.covariance(exact(x, sigma), sigma).apply(v)
    torch.testing.assert_close(found, known, rtol=0, atol=1e-10)


def test_grey_stays_grey() -> None:
    """A grey picture in three channels is judged by its brightness at a third of the variance."""
    grey = grey_problem()
    x = torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(2)).double()
    sigma = torch.tensor([0.2], dtype=torch.float64)
    found = ColourDenoiser(grey.denoiser(), "opponent")(x.expand(1, 3, SIDE, SIDE), sigma)
    known = grey.denoiser()(x, sigma / math.sqrt(3)).mean
    torch.testing.assert_close(found.mean, known.expand_as(found.mean), rtol=0, atol=1e-10)


def test_channels_come_apart_and_together() -> None:
    x, _ = noisy(4)
    assert torch.equal(together(apart(x), 3), x)
    assert torch.equal(apart(x)[4], x[1, 1][None])


def test_an_unknown_way_is_named() -> None:
    with pytest.raises(InputError, match="colours: 'cmyk'; give one of opponent, separate"):
        ColourDenoiser(grey_problem().denoiser(), "cmyk")  # type: ignore[arg-type]


def test_a_foreign_answer_has_no_colours() -> None:
    x, sigma = noisy()
    denoiser = ColourDenoiser(grey_problem().denoiser(), "opponent")
    with pytest.raises(InputError, match="not an answer of this denoiser"):
        denoiser.covariance(colour_problem("opponent").denoiser()(x, sigma), sigma)
