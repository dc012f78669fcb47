"""Solvers: measured orders, exact sample moments, independence of schedule and batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib import import_module
from typing import cast

import pytest
import torch

from certes.diffusion.bases import CosineBasis
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.grids import log_sigma_grid, times_of
from certes.diffusion.noise import NoiseSource
from certes.diffusion.problems import GaussianProblem, MixtureProblem
from certes.diffusion.process import Process
from certes.diffusion.schedules import EDM, VP
from certes.diffusion.solvers import State, ancestral, ddim, dpm_solver_2m, unipc
from certes.diffusion.solvers.ancestral import Variance
from certes.errors import InputError, ModelError

SHAPE = (1, 2, 3)
HIGH, LOW = 10.0, 0.02
VE_PROCESS = Process(EDM())

Problem = GaussianProblem | MixtureProblem
Solver = Callable[..., Iterator[State]]

SOLVERS = {
    "ancestral": ancestral,
    "ddim": ddim,
    "ddim eta": partial(ddim, eta=0.5),
    "2m": dpm_solver_2m,
    "2m sde": partial(dpm_solver_2m, eta=1.0),
    # UniPC draws nothing; the others' signature makes it one of the list.
    "unipc 2": lambda process, denoiser, times, x, noise: unipc(process, denoiser, times, x),
    "unipc 3": lambda process, denoiser, times, x, noise: unipc(process, denoiser, times, x, 3),
}
every = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS.keys())


@pytest.fixture(params=["gaussian", "mixture"])
def problem(request: pytest.FixtureRequest) -> Problem:
    return request.getfixturevalue(request.param)


def levels(steps: int) -> torch.Tensor:
    """A grid of ``steps`` steps that stops short of zero, where order has a meaning."""
    return log_sigma_grid(HIGH, LOW, steps + 1)[:-1]


def start(count: int = 4) -> torch.Tensor:
    return HIGH * NoiseSource(range(count)).normal(SHAPE, torch.float64) + 0.5


def last(states: Iterator[State]) -> State:
    *_, state = states
    return state


def slope(errors: list[float]) -> float:
    """Minus the least-squares slope of log error over log steps, steps doubling."""
    ys = [math.log2(error) for error in errors]
    xs = [i - (len(ys) - 1) / 2 for i in range(len(ys))]
    return -sum(x * y for x, y in zip(xs, ys, strict=True)) / sum(x * x for x in xs)


@cache
def flow_end(problem: Problem) -> torch.Tensor:
    """Where the probability flow carries ``start()``: known for a Gaussian, else refined."""
    if isinstance(problem, GaussianProblem):
        variance = problem.eigenvalues
        shrink = ((variance + LOW**2) / (variance + HIGH**2)).sqrt()
        return problem.from_spectrum(problem.spectrum_of(start()) * shrink)
    return last(unipc(VE_PROCESS, problem.denoiser(), levels(2000), start(), order=3)).x


def order(problem: Problem, solver: Solver) -> float:
    end = flow_end(problem)
    errors: list[float] = []
    for steps in (40, 80, 160, 320):
        noise = NoiseSource(range(4))
        state = last(solver(VE_PROCESS, problem.denoiser(), levels(steps), start(), noise))
        errors.append(float((state.x - end).abs().max()))
    return slope(errors)


@pytest.mark.parametrize(("name", "expected"), [("ddim", 1), ("2m", 2), ("unipc 2", 3)])
def test_order(problem: Problem, name: str, expected: int) -> None:
    assert order(problem, SOLVERS[name]) == pytest.approx(expected, abs=0.1)


def test_unipc_3_is_better_than_third_order(problem: Problem) -> None:
    """Fourth in the limit; at these steps the first ones, of lower order, still show."""
    assert 3.3 < order(problem, SOLVERS["unipc 3"]) < 4.2


def test_the_first_unipc_is_of_order_two(problem: Problem) -> None:
    def unipc_1(process, denoiser, times, x, noise):
        return unipc(process, denoiser, times, x, order=1)

    assert order(problem, unipc_1) == pytest.approx(2, abs=0.1)


def test_order_notices_an_extrapolation_the_wrong_way(
    gaussian: GaussianProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: 2M extrapolating backwards is first order."""
    module = import_module("certes.diffusion.solvers.dpm_solver")
    forwards = module.extrapolation
    monkeypatch.setattr(module, "extrapolation", lambda *log_snr: -forwards(*log_snr))
    assert order(gaussian, dpm_solver_2m) < 1.2


def test_order_notices_wrong_nodes(
    gaussian: GaussianProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: UniPC that places its nodes 5 % off loses its order."""
    module = import_module("certes.diffusion.solvers.unipc")
    right = module._weights
    monkeypatch.setattr(module, "_weights", lambda u, h: right([1.05 * v for v in u], h))
    assert order(gaussian, SOLVERS["unipc 2"]) < 1.5


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_2m_is_the_published_update(gaussian: GaussianProblem, eta: float) -> None:
    """Lu et al. 2022, algorithm 2 (ODE) and its SDE variant, written out on a VP schedule."""
    process, denoiser = Process(VP()), gaussian.denoiser()
    times = torch.tensor([0.9, 0.6, 0.45], dtype=torch.float64)
    x, noise = NoiseSource([1]).normal(SHAPE, torch.float64), NoiseSource([2])
    first, second = dpm_solver_2m(process, denoiser, times, x, NoiseSource([2]), eta)
    noise.normal(SHAPE, torch.float64)
    e = noise.normal(SHAPE, torch.float64)

    (_, sigma_t, sigma_s), alpha_s = process.schedule.sigma(times), process.schedule.alpha(times)[2]
    half = process.schedule.log_snr(times) / 2
    h = half[2] - half[1]
    r = (half[1] - half[0]) / h
    d = (1 + 1 / (2 * r)) * second.estimate - first.estimate / (2 * r)
    if eta == 0:
        expected = sigma_s / sigma_t * first.x - alpha_s * torch.expm1(-h) * d
    else:
        decayed = sigma_s / sigma_t * (-h).exp() * first.x
        fresh = sigma_s * torch.expm1(-2 * h).neg().sqrt() * e
        expected = decayed - alpha_s * torch.expm1(-2 * h) * d + fresh
    torch.testing.assert_close(second.x, expected, rtol=1e-12, atol=1e-13)


@every
def test_the_schedule_and_the_basis_do_not_matter(solver: Solver, mixture: MixtureProblem) -> None:
    """The same levels in another schedule's times, in [-1, 1] units, end at the same picture."""
    vp = Process(VP(), center=0.5, scale=0.5)
    times = times_of(vp.schedule, levels(8) / vp.scale)
    x = vp.schedule.alpha(times[0]) * vp.encode(start())
    other = last(solver(vp, mixture.denoiser(), times, x, NoiseSource(range(4))))
    here = last(solver(VE_PROCESS, mixture.denoiser(), levels(8), start(), NoiseSource(range(4))))
    torch.testing.assert_close(other.estimate, here.estimate, rtol=1e-8, atol=1e-9)
    end = vp.decode(other.x / vp.schedule.alpha(times[-1]))
    torch.testing.assert_close(end, here.x, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", ["ddim", "2m", "unipc 2", "unipc 3"])
def test_deterministic_solvers_run_in_any_basis(name: str, mixture: MixtureProblem) -> None:
    rotated = Process(EDM(), CosineBasis())
    x, noise = rotated.encode(start()), NoiseSource(range(4))
    there = last(SOLVERS[name](rotated, mixture.denoiser(), levels(8), x, noise)).x
    here = last(SOLVERS[name](VE_PROCESS, mixture.denoiser(), levels(8), start(), noise)).x
    torch.testing.assert_close(rotated.decode(there), here, rtol=1e-8, atol=1e-9)


@every
def test_an_item_does_not_depend_on_its_batch_mates(
    solver: Solver, mixture: MixtureProblem
) -> None:
    denoiser = mixture.denoiser()
    together = last(solver(VE_PROCESS, denoiser, levels(6), start(), NoiseSource(range(4))))
    alone = last(solver(VE_PROCESS, denoiser, levels(6), start()[2:3], NoiseSource([2])))
    torch.testing.assert_close(together.x[2:3], alone.x, rtol=1e-10, atol=1e-12)


class Counting(Denoiser):
    """Counts the calls to another denoiser and remembers the answers."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser
        self.answers: list[Denoised] = []

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> Denoised:
        self.answers.append(self.denoiser(x, sigma))
        return self.answers[-1]

    def covariance(self, denoised: Denoised, sigma: torch.Tensor):
        return self.denoiser.covariance(denoised, sigma)


@every
def test_one_call_for_each_step_and_the_clean_end_is_the_estimate(
    solver: Solver, mixture: MixtureProblem
) -> None:
    denoiser, grid = Counting(mixture.denoiser()), log_sigma_grid(HIGH, LOW, 7)
    states = list(solver(VE_PROCESS, denoiser, grid, start().float(), NoiseSource(range(4))))
    assert [state.t for state in states] == grid[1:].tolist()
    assert len(denoiser.answers) == 7
    for state, answer in zip(states, denoiser.answers, strict=True):
        assert torch.equal(state.estimate, answer.mean)
        assert state.x.dtype == torch.float32
    torch.testing.assert_close(states[-1].x, states[-1].estimate)


class Impulses:
    """A source of noise that gives each draw its own items of the batch, one for each pixel.

    A solver of a Gaussian problem is linear in its noise; with unit draws, one at a time, the whole
    law of its samples comes out exactly, without any sampling. Item 0 gets no noise at all.
    """

    def __init__(self, draws: int, size: int) -> None:
        self.draws, self.size, self.done = draws, size, 0

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        out = torch.zeros(1 + (self.draws + 1) * self.size, self.size, dtype=dtype)
        self.done += 1
        first = 1 + self.done * self.size
        out[first : first + self.size] = torch.eye(self.size, dtype=dtype)
        return out.reshape(-1, *shape)


def law(problem: GaussianProblem, solver: Solver, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The exact mean and covariance of a solver's samples, started from the exact p(x_T)."""
    noisy = problem.covariance + HIGH**2 * torch.eye(6, dtype=torch.float64)
    x = torch.zeros(1 + (steps + 1) * 6, 6, dtype=torch.float64)
    x[1:7] = torch.linalg.cholesky(noisy).T
    x = x.reshape(-1, *SHAPE) + problem.mean
    end = last(solver(VE_PROCESS, problem.denoiser(), levels(steps), x, Impulses(steps, 6))).x
    response = (end[1:] - end[0]).flatten(1)
    return end[0], response.T @ response


STOCHASTIC = [
    ("ancestral", 1),
    ("ddim", 1),
    ("ddim eta", 1),
    ("2m", 2),
    ("2m sde", 2),
    ("unipc 2", 3),
]


@pytest.mark.parametrize(("name", "expected"), STOCHASTIC)
def test_samples_have_the_law_of_the_problem(
    gaussian: GaussianProblem, name: str, expected: int
) -> None:
    """The mean is exact, the covariance converges at the solver's order."""
    exact = gaussian.covariance + LOW**2 * torch.eye(6, dtype=torch.float64)
    errors: list[float] = []
    for steps in (40, 80, 160):
        mean, covariance = law(gaussian, SOLVERS[name], steps)
        torch.testing.assert_close(mean, gaussian.mean, rtol=1e-12, atol=1e-12)
        errors.append(float((covariance - exact).abs().max() / exact.max()))
    assert slope(errors) == pytest.approx(expected, abs=0.15)
    assert errors[-1] < 0.1


def white(scale: float) -> GaussianProblem:
    return GaussianProblem(torch.full(SHAPE, 0.5), scale**2 * torch.eye(6, dtype=torch.float64))


def test_the_learned_variance_needs_no_small_steps_on_white_pictures() -> None:
    """Two steps are exact with it; with either of DDPM's choices they are not."""
    problem = white(0.2)
    exact = (0.2**2 + LOW**2) * torch.eye(6, dtype=torch.float64)
    _, covariance = law(problem, partial(ancestral, variance="learned"), 2)
    torch.testing.assert_close(covariance, exact, rtol=1e-10, atol=1e-14)
    for variance, wrong in (("small", 0.9), ("large", 1.1)):
        _, covariance = law(problem, partial(ancestral, variance=variance), 2)
        ratio = float(covariance[0, 0] / exact[0, 0])
        assert ratio < wrong if wrong < 1 else ratio > wrong


def test_ancestral_sampling_is_ddim_at_eta_one(mixture: MixtureProblem) -> None:
    arguments = VE_PROCESS, mixture.denoiser(), levels(5), start()
    one = last(ancestral(*arguments, NoiseSource(range(4)))).x
    other = last(ddim(*arguments, NoiseSource(range(4)), eta=1.0)).x
    torch.testing.assert_close(one, other)


def test_drawn_samples_have_the_law_that_was_computed(gaussian: GaussianProblem) -> None:
    """The streams in place of the impulses: mean and covariance of 2000 pictures."""
    count = 2000
    solver = SOLVERS["2m sde"]
    mean, covariance = law(gaussian, solver, 10)
    noise = NoiseSource(range(count))
    x = gaussian.sample(count, 5) + HIGH * noise.normal(SHAPE, torch.float64)
    drawn = last(solver(VE_PROCESS, gaussian.denoiser(), levels(10), x, noise)).x.flatten(1)
    spread = covariance.diagonal().sqrt()
    assert ((drawn.mean(0) - mean.flatten()) / spread).abs().max() < 5 / count**0.5
    difference = (drawn.T.cov() - covariance) / torch.outer(spread, spread)
    assert difference.abs().max() < 10 / count**0.5


@pytest.mark.parametrize("times", [[1.0], [1.0, 1.0], [0.1, 1.0], [[1.0, 0.1]]])
def test_grids_that_do_not_descend_are_refused(times, gaussian: GaussianProblem) -> None:
    with pytest.raises(InputError, match="times"):
        next(unipc(VE_PROCESS, gaussian.denoiser(), torch.tensor(times), start()))


def test_unknown_choices_are_refused(gaussian: GaussianProblem) -> None:
    arguments = VE_PROCESS, gaussian.denoiser(), levels(3), start()
    with pytest.raises(InputError, match="order"):
        next(unipc(*arguments, order=4))
    with pytest.raises(InputError, match="variance"):
        next(ancestral(*arguments, NoiseSource(range(4)), cast(Variance, "medium")))


def test_the_learned_variance_must_be_known(gaussian: GaussianProblem) -> None:
    rotated = Process(EDM(), CosineBasis())
    with pytest.raises(ModelError, match="learned"):
        next(
            ancestral(
                rotated, gaussian.denoiser(), levels(3), start(), NoiseSource(range(4)), "learned"
            )
        )
