"""The samplers of score-based SDEs: exact laws, orders, independence of steps and batch mates.

On a Gaussian every solver is linear in its start and in its noise, so that its law is computed
rather than sampled: a unit of each draw goes to a batch item of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from itertools import pairwise

import pytest
import torch

from certes.diffusion.covariance import Covariance
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.grids import log_sigma_grid, times_of
from certes.diffusion.noise import NoiseSource
from certes.diffusion.problems import GaussianProblem, MixtureProblem
from certes.diffusion.process import Process, like
from certes.diffusion.schedules import EDM, VE, VP, Schedule, SubVP
from certes.diffusion.solvers import (
    State,
    correct,
    euler_maruyama,
    heun,
    predictor_corrector,
    probability_flow,
    reverse_diffusion,
    unipc,
)
from certes.diffusion.solvers.langevin import by_level, by_norms
from certes.diffusion.solvers.sampling import SOLVERS as NAMED
from certes.diffusion.solvers.sampling import ReverseChain
from certes.errors import InputError, ModelError

SHAPE = (1, 2, 3)
HIGH, LOW = 10.0, 0.02
MEAN = torch.linspace(0.3, 0.7, 6, dtype=torch.float64).reshape(SHAPE)
VARIANCE = torch.logspace(-3, -1, 6, dtype=torch.float64).reshape(SHAPE)

Solver = Callable[..., Iterator[State]]

STOCHASTIC: dict[str, Solver] = {
    "euler-maruyama": euler_maruyama,
    "reverse diffusion": reverse_diffusion,
    "pc": predictor_corrector,
    "pc, em": partial(predictor_corrector, predictor="euler_maruyama"),
    "pc, ancestral": partial(predictor_corrector, predictor="ancestral"),
}
SOLVERS: dict[str, Solver] = {
    **STOCHASTIC,
    # These draw nothing; the others' signature makes them some of the list.
    "heun": lambda process, denoiser, times, x, noise: heun(process, denoiser, times, x),
    "flow": lambda process, denoiser, times, x, noise: probability_flow(
        process, denoiser, times, x, tolerance=1e-5
    ),
}
every = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS.keys())
PROCESSES = {
    "edm": Process(EDM()),
    "ve": Process(VE(0.002, 50.0)),
    "vp": Process(VP(), center=0.5, scale=0.5),
    "sub-vp": Process(SubVP(), center=0.5, scale=0.5),
}


class PixelsApart(Denoiser):
    """Exact for independent pixels, one by one: its bits do not depend on the batch."""

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> Denoised:
        noise = sigma.double().reshape(len(sigma), *sigma.shape[1:] or (1, 1, 1)) ** 2
        shrink = VARIANCE / (VARIANCE + noise)
        return Denoised((MEAN + shrink * (x.double() - MEAN)).to(x))

    def covariance(self, denoised: Denoised, sigma: torch.Tensor):
        raise NotImplementedError


class Impulses:
    """A source of noise that gives a unit of draw k to item k + 2 of the batch."""

    def __init__(self, items: int) -> None:
        self.items, self.drawn = items, 0

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        out = torch.zeros(self.items, *shape, dtype=dtype)
        out[2 + self.drawn] = 1
        self.drawn += 1
        return out


def last(states: Iterator[State]) -> State:
    *_, state = states
    return state


def levels(steps: int) -> torch.Tensor:
    """A grid of ``steps`` steps that stops short of zero, where order has a meaning."""
    return log_sigma_grid(HIGH, LOW, steps + 1)[:-1]


def start(count: int = 4) -> torch.Tensor:
    return HIGH * NoiseSource(range(count)).normal(SHAPE, torch.float64) + 0.5


def clean_grid(process: Process, steps: int) -> torch.Tensor:
    """Times down to the clean end, or to the least noise that the schedule has."""
    grid = log_sigma_grid(HIGH, 0.002, steps) / process.scale
    if isinstance(process.schedule, EDM):
        return grid
    return torch.cat([times_of(process.schedule, grid[:-1]).clamp(min=1e-9), torch.zeros(1)])


def law(process: Process, solver: Solver, times: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Exact mean and variance, in image units, of what a solver makes of the exact start."""
    alpha, sigma = process.schedule.alpha(times[0]), process.schedule.sigma(times[0])
    spread = (alpha**2 * VARIANCE / process.scale**2 + sigma**2).sqrt()
    draws = 2 if solver is predictor_corrector or isinstance(solver, partial) else 1
    x = (alpha * process.encode(MEAN)).repeat(2 + draws * len(times), 1, 1, 1)
    x[1] += spread
    end = last(solver(process, PixelsApart(), times, x, Impulses(len(x))))
    picture = process.decode(end.x / process.schedule.alpha(times[-1]))
    return picture[0], ((picture[1:] - picture[0]) ** 2).sum(0)


def slope(errors: list[float], ratio: float = 2.0) -> float:
    """Minus the least-squares slope of log error over log effort, which grows by ``ratio``."""
    ys = [math.log(error, ratio) for error in errors]
    xs = [i - (len(ys) - 1) / 2 for i in range(len(ys))]
    return -sum(x * y for x, y in zip(xs, ys, strict=True)) / sum(x * x for x in xs)


@pytest.mark.parametrize("name", ["edm", "sub-vp"])
@every
def test_many_steps_have_the_law_of_the_pictures(solver: Solver, name: str) -> None:
    process = PROCESSES[name]
    mean, variance = law(process, solver, clean_grid(process, 1000))
    torch.testing.assert_close(mean, MEAN, rtol=0, atol=1e-3)
    # What is left: the length of the steps, and of the last one.
    torch.testing.assert_close(variance, VARIANCE, rtol=0.02, atol=0)


@pytest.mark.parametrize("name", ["euler-maruyama", "reverse diffusion"])
def test_the_law_converges_at_first_order(name: str) -> None:
    exact = VARIANCE + LOW**2
    errors = [
        float((law(Process(EDM()), STOCHASTIC[name], levels(steps))[1] / exact - 1).abs().max())
        for steps in (160, 320, 640)
    ]
    assert slope(errors) == pytest.approx(1, abs=0.1)


def flow_end(problem: GaussianProblem | MixtureProblem) -> torch.Tensor:
    """Where the probability flow carries ``start()``: known for a Gaussian, else refined."""
    if isinstance(problem, GaussianProblem):
        variance = problem.eigenvalues
        shrink = ((variance + LOW**2) / (variance + HIGH**2)).sqrt()
        return problem.from_spectrum(problem.spectrum_of(start()) * shrink)
    return last(unipc(Process(EDM()), problem.denoiser(), levels(600), start(), order=3)).x


def heun_order(problem: GaussianProblem | MixtureProblem) -> float:
    end, process = flow_end(problem), Process(EDM())
    ends = (last(heun(process, problem.denoiser(), levels(n), start())).x for n in (40, 80, 160))
    return slope([float((x - end).abs().max()) for x in ends])


@pytest.mark.parametrize("name", ["gaussian", "mixture"])
def test_heun_is_of_second_order(name: str, request: pytest.FixtureRequest) -> None:
    assert heun_order(request.getfixturevalue(name)) == pytest.approx(2, abs=0.1)


def test_order_notices_a_missing_second_slope(
    gaussian: GaussianProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: without it the step is Euler's."""
    module = import_module("certes.diffusion.solvers.heun")
    monkeypatch.setattr(module, "_slope", lambda process, x, x0, t: torch.zeros_like(x))
    assert heun_order(gaussian) == pytest.approx(1, abs=0.1)


TOLERANCES = [1e-3, 1e-4, 1e-5, 1e-6, 1e-7]


@pytest.mark.parametrize("name", ["gaussian", "mixture"])
def test_the_error_of_the_adaptive_flow_follows_its_tolerance(
    name: str, request: pytest.FixtureRequest
) -> None:
    problem = request.getfixturevalue(name)
    end, ends = torch.tensor([HIGH, LOW], dtype=torch.float64), flow_end(problem)
    errors: list[float] = []
    calls: list[int] = []
    for tolerance in TOLERANCES:
        state = last(probability_flow(Process(EDM()), problem.denoiser(), end, start(), tolerance))
        errors.append(float((state.x - ends).abs().max()))
        calls.append(state.calls)
    assert all(error < 3 * tolerance for error, tolerance in zip(errors, TOLERANCES, strict=True))
    assert slope(errors, ratio=10) == pytest.approx(1, abs=0.25)
    # Of order five: ten times the accuracy for 10^(1/5) times the steps.
    assert -slope([float(n) for n in calls[1:]], ratio=10) == pytest.approx(0.2, abs=0.06)


def test_the_whole_range_of_noise_at_once(gaussian: GaussianProblem) -> None:
    times = torch.tensor([78.0, 0.002, 0.0], dtype=torch.float64)
    x = 78 * NoiseSource(range(4)).normal(SHAPE, torch.float64) + 0.5
    state = last(probability_flow(Process(EDM()), gaussian.denoiser(), times, x, 1e-6))
    variance = gaussian.eigenvalues
    shrink = ((variance + 0.002**2) / (variance + 78**2)).sqrt()
    shrink = shrink * variance / (variance + 0.002**2)  # the estimate at the end
    expected = gaussian.from_spectrum(gaussian.spectrum_of(x) * shrink)
    torch.testing.assert_close(state.x, expected, rtol=0, atol=2e-6)
    assert torch.equal(state.x, state.estimate)
    assert state.t == 0
    assert state.calls < 400


def vp_times(steps: int) -> torch.Tensor:
    return torch.linspace(1, 1e-3, steps + 1, dtype=torch.float64)


def spreads(solver: Solver) -> list[float]:
    """How far the spread is off, as a share, at the original 1000 steps and with fewer."""
    process = PROCESSES["vp"]
    exact = VARIANCE.sqrt()
    return [
        float((law(process, solver, vp_times(steps))[1].sqrt() / exact - 1).abs().max())
        for steps in (250, 500, 1000)
    ]


STEPS_OF = [
    ("euler_maruyama", "euler_maruyama_step", euler_maruyama),
    ("reverse_diffusion", "reverse_diffusion_step", reverse_diffusion),
]


@pytest.mark.parametrize("solver", [euler_maruyama, reverse_diffusion, predictor_corrector])
def test_the_number_of_steps_changes_only_accuracy(solver: Solver) -> None:
    assert max(spreads(solver)) < 0.15


@pytest.mark.parametrize(("module", "name", "solver"), STEPS_OF)
def test_the_number_of_steps_notices_a_step_of_the_training_grid(
    module: str, name: str, solver: Solver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: the original's dt = -1/1000, right for 1000 steps only."""
    where = import_module(f"certes.diffusion.solvers.{module}")
    right = getattr(where, name)
    monkeypatch.setattr(
        where, name, lambda process, x, x0, t, s: right(process, x, x0, t, t - 0.999 / 1000)
    )
    quarter, half, right_many = spreads(solver)
    assert right_many < 0.15
    assert min(quarter, half) > 0.3


def batch_mean_norms(process, denoiser, x, t, noise, snr, steps, scale) -> torch.Tensor:
    """The original corrector: norms averaged over the batch."""
    alpha, sigma = process.schedule.alpha(t), process.schedule.sigma(t)
    for _ in range(steps):
        estimate = process.encode(process.denoise(denoiser, x, t).mean)
        score = (like(alpha, x) * estimate - x) / like(sigma, x) ** 2
        e = noise.normal(x.shape[1:], x.dtype)
        epsilon = 2 * (snr * e.flatten(1).norm(dim=1).mean() / score.flatten(1).norm(dim=1).mean())
        epsilon = epsilon * snr * e.flatten(1).norm(dim=1).mean()
        epsilon = epsilon / score.flatten(1).norm(dim=1).mean()
        x = x + epsilon * score + (2 * epsilon).sqrt() * e
    return x


def alone_as_together(solver: Solver) -> bool:
    """Whether a picture is the same, bit for bit, without its batch mates."""
    arguments = Process(EDM()), PixelsApart(), log_sigma_grid(HIGH, LOW, 12)
    together = last(solver(*arguments, start(), NoiseSource(range(4))))
    alone = last(solver(*arguments, start()[2:3], NoiseSource([2])))
    return torch.equal(together.x[2:3], alone.x)


@every
def test_batch_mates_change_nothing(solver: Solver) -> None:
    assert alone_as_together(solver)


def test_batch_mates_change_nothing_with_norms_of_each() -> None:
    assert alone_as_together(partial(predictor_corrector, scale=by_norms))


def test_batch_mates_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: norms that are averaged over the batch."""
    module = import_module("certes.diffusion.solvers.predictor_corrector")
    monkeypatch.setattr(module, "correct", batch_mean_norms)
    assert not alone_as_together(predictor_corrector)


@pytest.mark.parametrize("name", ["ve", "vp", "sub-vp"])
def test_a_langevin_step_is_the_published_one(name: str) -> None:
    """From the exact law at t a step of length eps leaves the variance v + eps^2 / v."""
    process, snr = PROCESSES[name], 0.3
    t = torch.tensor(0.4, dtype=torch.float64)
    alpha, sigma = process.schedule.alpha(t), process.schedule.sigma(t)
    v = alpha**2 * VARIANCE / process.scale**2 + sigma**2
    x = (alpha * process.encode(MEAN)).repeat(3, 1, 1, 1)
    x[1] += v.sqrt()
    after = correct(process, PixelsApart(), x, t, Impulses(3), snr)
    epsilon = 2 * (snr * sigma) ** 2
    torch.testing.assert_close(after[0], x[0], rtol=1e-12, atol=1e-12)
    found = ((after[1:] - after[0]) ** 2).sum(0)
    torch.testing.assert_close(found, v + epsilon**2 / v, rtol=1e-10, atol=0)


class OneStream:
    """Noise for many pictures at once, where who gets which does not matter."""

    def __init__(self, count: int) -> None:
        self.count, self.generator = count, torch.Generator().manual_seed(5)

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        return torch.randn(self.count, *shape, generator=self.generator, dtype=dtype)


def test_why_the_rule_takes_no_norms() -> None:
    """Norms of each picture alone leave another law than p unchanged."""
    count, level = 4000, torch.tensor(0.3, dtype=torch.float64)
    process, noise = Process(EDM()), OneStream(count)
    spread = (VARIANCE + level**2).sqrt()

    def ratio(corrector: Callable[..., torch.Tensor]) -> float:
        x = MEAN + spread * noise.normal(SHAPE, torch.float64)
        x = corrector(process, PixelsApart(), x, level, noise, 0.16, 100)
        return float(((x - MEAN) / spread).square().mean())

    # Six pixels each, so 24,000 values: a standard error of 0.009; eps^2 / v adds up to 0.026.
    assert ratio(correct) == pytest.approx(1, abs=0.06)
    assert ratio(partial(correct, scale=by_norms)) > 1.3


def test_norms_hardly_matter_where_noise_dominates() -> None:
    """In many dimensions, with every one of them noisy, both rules are one."""
    process, t = Process(EDM()), torch.tensor(0.5, dtype=torch.float64)
    x = 0.5 * NoiseSource([3]).normal((1, 64, 64), torch.float64)
    steps = [
        correct(process, Empty(), x, t, NoiseSource([4]), 0.16, scale=scale) - x
        for scale in (by_level, by_norms)
    ]
    assert float((steps[0] - steps[1]).norm() / steps[0].norm()) < 0.05


class Empty(Denoiser):
    """Of pictures that are all black."""

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> Denoised:
        return Denoised(torch.zeros_like(x))

    def covariance(self, denoised: Denoised, sigma: torch.Tensor) -> Covariance:
        raise NotImplementedError


class Counting(PixelsApart):
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.levels: list[float] = []

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> Denoised:
        assert x.dtype == sigma.dtype == torch.float32
        self.levels.append(float(sigma[0]))
        return super().__call__(x, sigma)


def asked(solver: Solver, steps: int) -> list[float]:
    """The levels of the network calls of a walk to the clean end; checks its states, too."""
    denoiser, grid = Counting(), log_sigma_grid(HIGH, LOW, steps)
    x = start().float()
    states = list(solver(Process(EDM()), denoiser, grid, x, NoiseSource(range(4))))
    assert [state.t for state in states] == grid[1:].tolist()
    assert all(state.x.dtype == state.estimate.dtype == torch.float32 for state in states)
    torch.testing.assert_close(states[-1].x, states[-1].estimate)
    return denoiser.levels


def test_network_calls() -> None:
    grid = log_sigma_grid(HIGH, LOW, 5)[:-1].float().tolist()
    assert asked(euler_maruyama, 5) == grid
    assert asked(reverse_diffusion, 5) == grid
    # The corrector comes first: both calls of a step are at its start.
    assert asked(predictor_corrector, 5) == [level for level in grid for _ in range(2)]
    twice = partial(predictor_corrector, corrections=2)
    assert asked(twice, 5) == [level for level in grid for _ in range(3)]
    ends = [level for step in pairwise(grid) for level in step]
    assert asked(SOLVERS["heun"], 5) == [*ends, grid[-1]]


def test_the_flow_counts_its_calls_and_every_picture_has_its_time() -> None:
    denoiser, times = Counting(), torch.tensor([HIGH, LOW, 0.0], dtype=torch.float64)
    x = torch.stack([MEAN, MEAN + 30.0]).float()
    states = list(probability_flow(Process(EDM()), denoiser, times, x))
    assert states[-1].calls == len(denoiser.levels) == 1 + 6 * ((len(denoiser.levels) - 1) // 6)
    assert any(float(state.times[0]) != float(state.times[1]) for state in states)
    assert [state.t for state in states] == [float(state.times.max()) for state in states]
    assert states[-1].x.dtype == torch.float32
    torch.testing.assert_close(states[-1].x, states[-1].estimate)


@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize("name", NAMED)
def test_named_solvers_give_a_state_for_each_step(name, steps: int) -> None:
    chain = ReverseChain(name, steps)
    states = list(chain(PixelsApart(), start().float(), chain.grid(HIGH), NoiseSource(range(4))))
    assert len(states) == steps
    torch.testing.assert_close(states[-1].x, states[-1].estimate)


def test_the_last_step_of_predictor_corrector_is_free_of_noise() -> None:
    noise = Impulses(22)
    last(predictor_corrector(Process(EDM()), PixelsApart(), levels(10), start(22), noise))
    assert noise.drawn == 2 * 10 - 1


@pytest.mark.parametrize(
    ("schedule", "drift"),
    [(VE(0.01, 50.0), "ve"), (VP(), "vp")],
    ids=["ve", "vp"],
)
def test_reverse_diffusion_is_the_published_update(schedule: Schedule, drift: str) -> None:
    """Song et al. 2021, appendix E and F: SMLD's and DDPM's discretisations."""
    process = Process(schedule)
    t, s = (torch.tensor(v, dtype=torch.float64) for v in (0.6, 0.55))
    x, e = NoiseSource([1]).normal(SHAPE, torch.float64), NoiseSource([2])
    state = next(reverse_diffusion(process, PixelsApart(), torch.stack([t, s]), x, e))
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    score = (alpha * state.estimate - x) / sigma**2
    fresh = NoiseSource([2]).normal(SHAPE, torch.float64)
    if drift == "ve":
        added = sigma**2 - schedule.sigma(s) ** 2
        expected = x + added * score + added.sqrt() * fresh
    else:
        beta = 1 - (alpha / schedule.alpha(s)) ** 2
        expected = (2 - (1 - beta).sqrt()) * x + beta * score + beta.sqrt() * fresh
    torch.testing.assert_close(state.x, expected, rtol=1e-10, atol=1e-12)


def test_euler_maruyama_is_the_published_update() -> None:
    process = Process(SubVP())
    t, s = (torch.tensor(v, dtype=torch.float64) for v in (0.6, 0.55))
    x = NoiseSource([1]).normal(SHAPE, torch.float64)
    state = next(euler_maruyama(process, PixelsApart(), torch.stack([t, s]), x, NoiseSource([2])))
    f, g = process.sde(t)
    alpha, sigma = process.schedule.alpha(t), process.schedule.sigma(t)
    score = (alpha * state.estimate - x) / sigma**2
    dt, fresh = s - t, NoiseSource([2]).normal(SHAPE, torch.float64)
    expected = x + (f * x - g**2 * score) * dt + g * (-dt).sqrt() * fresh
    torch.testing.assert_close(state.x, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["heun", "flow"])
def test_the_schedule_does_not_matter(name: str, mixture: MixtureProblem) -> None:
    """The same levels in another schedule's times, in [-1, 1] units, end at the same picture."""
    vp, solver = PROCESSES["vp"], SOLVERS[name]
    times = times_of(vp.schedule, levels(8) / vp.scale)
    x, noise = vp.schedule.alpha(times[0]) * vp.encode(start()), NoiseSource(range(4))
    other = last(solver(vp, mixture.denoiser(), times, x, noise))
    here = last(solver(Process(EDM()), mixture.denoiser(), levels(8), start(), noise))
    end = vp.decode(other.x / vp.schedule.alpha(times[-1]))
    torch.testing.assert_close(end, here.x, rtol=1e-7, atol=1e-8)


class Broken(PixelsApart):
    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> Denoised:
        return Denoised(x * math.nan)


class Rough(PixelsApart):
    """Its answers have three digits."""

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> Denoised:
        return Denoised((super().__call__(x, sigma).mean * 1e3).round() / 1e3)


def test_refused() -> None:
    process, noise = Process(EDM()), NoiseSource(range(4))
    with pytest.raises(InputError, match="predictor: 'none'; give one of"):
        next(predictor_corrector(process, PixelsApart(), levels(3), start(), noise, "none"))  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="tolerance: 0"):
        next(probability_flow(process, PixelsApart(), levels(3), start(), 0.0))
    with pytest.raises(InputError, match=r"tolerance: 1e-12 asks for more digits"):
        last(probability_flow(process, Rough(), levels(3), start(), 1e-12))
    with pytest.raises(InputError, match=r"times: from 0\.0, without noise"):
        next(probability_flow(process, PixelsApart(), torch.tensor([0.0, -1.0]), start()))
    with pytest.raises(ModelError, match="not finite"):
        next(probability_flow(process, Broken(), levels(3), start()))
