"""DiffPIR: the proximal step against dense algebra, the published step in its own units."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from certes.diffusion.noise import NoiseSource
from certes.diffusion.problems.linear import as_matrix
from certes.restoration.measurement import Measurement
from certes.restoration.operators import Blur, DecomposedOperator, Inpaint, SuperResolution
from certes.restoration.samplers.diffpir import proximal, sample_diffpir
from certes.restoration.samplers.levels import whole_descent

from ..laws import field, last
from .posed import affine_answers, judged, noise_free, posed, tasks

SHAPE = (2, 4, 6)
KERNEL = torch.tensor([1.0, 4.0, 1.0]).double() / 6


def random(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def operators() -> list[DecomposedOperator]:
    mask = random(4, 6, seed=1) < 0.5
    return [Inpaint(SHAPE, mask), SuperResolution(SHAPE, 2), Blur(SHAPE, KERNEL, "reflect")]


def dense(H: DecomposedOperator, y: Tensor, x: Tensor, rho: Tensor) -> Tensor:
    """The minimum of ``sum ((y - H z)^2 / rho) + (z - x)^2`` by the normal equations."""
    matrix = as_matrix(H, SHAPE, x)
    weighted = matrix / rho[:, None]
    system = torch.eye(H.n).double() + weighted.T @ matrix
    right = x.flatten() + weighted.T @ y.flatten()
    return torch.linalg.solve(system, right).reshape(SHAPE)


@pytest.mark.parametrize("H", operators(), ids=lambda H: H.name)
@pytest.mark.parametrize("mapped", [False, True])
def test_the_proximal_step_is_the_minimum(H: DecomposedOperator, mapped: bool) -> None:
    """For every row its own weight, or one for every value."""
    y, x = H.observed(random(3, *H.out_shape, seed=2)), random(3, *SHAPE, seed=3)
    rho = torch.tensor([[0.01], [0.3], [5.0]]).double()
    if mapped:
        rho = rho * (0.2 + random(3, H.m, seed=4))
    moved = proximal(H, y, x, rho)
    for row in range(3):
        expected = dense(H, y[row], x[row], rho[row].expand(H.m))
        error = (moved[row] - expected).norm() / (expected - x[row]).norm()
        assert error < 1e-3


@pytest.mark.parametrize("H", operators(), ids=lambda H: H.name)
def test_without_noise_the_proximal_step_projects(H: DecomposedOperator) -> None:
    truth, x = random(1, *SHAPE, seed=2), random(1, *SHAPE, seed=3)
    moved = proximal(H, H(truth), x, torch.zeros(1, 1).double())
    torch.testing.assert_close(moved, x + H.pinv(H(truth - x)), rtol=0, atol=2e-3)
    assert (H(moved) - H(truth)).norm() < 1e-3 * (H(x) - H(truth)).norm()


def test_a_step_is_the_published_one() -> None:
    """Algorithm 1 as the authors run it: VP in [-1, 1], lambda = 7 on mixed units, zeta = .3."""
    H, sigma_n = Blur(SHAPE, KERNEL, "reflect"), 0.05
    problem = field(SHAPE, 0.15, 1.5)
    y = H(problem.sample(1, 7)) + sigma_n * (random(1, *SHAPE, seed=2) - 0.5)
    bars = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), dim=0)
    bar_t, bar_s = bars[400], bars[350]
    t, s = (((1 - bar) / bar).sqrt() / 2 for bar in (bar_t, bar_s))
    e = [NoiseSource([5]), NoiseSource([5])]

    z = bar_t.sqrt() * (2 * (0.5 + t * e[0].normal(SHAPE, torch.float64)) - 1)
    x0 = problem.denoiser()((z / bar_t.sqrt() + 1) / 2, t[None]).mean
    rho = 7 * sigma_n**2 / ((1 - bar_t) / bar_t)
    z0 = 2 * dense(H, y[0], x0[0], rho.expand(H.m)) - 1
    e_hat = (z - bar_t.sqrt() * z0) / (1 - bar_t).sqrt()
    mixed = math.sqrt(0.7) * e_hat + math.sqrt(0.3) * e[0].normal(SHAPE, torch.float64)
    expected = (z0 + (1 - bar_s).sqrt() / bar_s.sqrt() * mixed + 1) / 2

    levels = torch.stack([t, s, torch.zeros_like(s)])
    known = Measurement(H, y, torch.tensor([sigma_n]).double())
    state = next(sample_diffpir(known, problem.denoiser(), levels, e[1]))
    torch.testing.assert_close(state.x, expected, rtol=0, atol=2e-4)
    torch.testing.assert_close(state.estimate[0], (z0 + 1) / 2, rtol=0, atol=2e-4)
    # Negative control: 7 in units of [0, 1] is another method.
    state = next(sample_diffpir(known, problem.denoiser(), levels, NoiseSource([5]), strength=7.0))
    assert (state.x - expected).abs().max() > 5e-3


@pytest.mark.parametrize("task", tasks())
def test_noise_free_measurements_are_met(task: str) -> None:
    case = noise_free(task)
    known, denoiser = case.measurement, case.problem.denoiser()
    end = last(sample_diffpir(known, denoiser, whole_descent(known, 5), NoiseSource([0])))
    assert (known.operator(end.x) - known.y).abs().max() < 1e-4


@pytest.mark.parametrize("task", ["super-resolve", "denoise"])
def test_its_mean_comes_near_the_exact_one(task: str) -> None:
    case = posed(task)
    coarse, fine = (judged(affine_answers("diffpir", case, steps), case) for steps in (10, 40))
    assert fine.error < 0.2
    assert fine.error < coarse.error


def test_it_cannot_carry_information_into_a_hole() -> None:
    """What white errors are worth on a correlated field: neither mean nor spread are right."""
    case = posed("inpaint")
    verdict = judged(affine_answers("diffpir", case, 20), case)
    assert verdict.spread > 1.3
    assert verdict.error > 0.8
    assert not verdict.calibrated
