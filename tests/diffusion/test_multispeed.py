"""Several speeds in one picture: coefficients, exact denoisers, joint laws, limits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch

from certes.diffusion.bases import Basis, CosineBasis, IdentityBasis
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.noise import NoiseSource
from certes.diffusion.problems import GaussianProblem
from certes.diffusion.process import Process
from certes.diffusion.schedules import (
    EDM,
    VE,
    VP,
    Multispeed,
    Still,
    SubVP,
    per_band,
    per_block,
    per_pixel,
    schedule_from_config,
)
from certes.diffusion.solvers import (
    State,
    ancestral,
    ddim,
    dpm_solver_2m,
    euler_maruyama,
    heun,
    predictor_corrector,
    probability_flow,
    reverse_diffusion,
    unipc,
)
from certes.errors import InputError

SHAPE = (2, 2, 2)
SIZE = 8
FAST, SLOW = VE(0.002, 10.0), VE(0.002, 1.0)

Solver = Callable[..., Iterator[State]]
SOLVERS: dict[str, Solver] = {
    "ancestral": ancestral,
    "ddim": ddim,
    "2m": dpm_solver_2m,
    "2m sde": partial(dpm_solver_2m, eta=1.0),
    "euler-maruyama": euler_maruyama,
    "reverse diffusion": reverse_diffusion,
    "pc": predictor_corrector,
    # These draw nothing; the others' signature makes them some of the list.
    "heun": lambda process, denoiser, times, x, noise: heun(process, denoiser, times, x),
    "flow": lambda process, denoiser, times, x, noise: probability_flow(
        process, denoiser, times, x, tolerance=1e-5
    ),
}
DRAWS: dict[Solver, int] = {predictor_corrector: 2, dpm_solver_2m: 0, ddim: 0}
DRAWS |= {SOLVERS["heun"]: 0, SOLVERS["flow"]: 0}
"""Draws for each step, where it is not one."""
every = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS.keys())

SPEEDS: dict[str, tuple[Multispeed, Basis]] = {
    "per block": (per_block([1, 1], [FAST, SLOW]), IdentityBasis()),
    "per pixel": (per_pixel(torch.tensor([[0, 1], [1, 0]]), [FAST, SLOW]), IdentityBasis()),
    "per band": (per_band((2, 2), [0.4], [SLOW, FAST]), CosineBasis()),
}
speeds = pytest.mark.parametrize("speed", SPEEDS)


def gaussian() -> GaussianProblem:
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64)
    covariance = 0.04 * (a @ a.T / SIZE + 0.1 * torch.eye(SIZE, dtype=torch.float64))
    mean = 0.5 + 0.1 * torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    return GaussianProblem(mean, covariance)


PROBLEM = gaussian()
EYE = torch.eye(SIZE, dtype=torch.float64)


class InBasis(Denoiser):
    """The exact denoiser of a Gaussian whose levels are those of coefficients, not pixels."""

    def __init__(self, problem: GaussianProblem, basis: Basis) -> None:
        matrix = basis.forward(EYE.reshape(-1, *SHAPE)).flatten(1).T
        covariance = matrix @ problem.covariance @ matrix.T
        covariance = (covariance + covariance.T) / 2
        self.basis = basis
        self.inner = GaussianProblem(basis.forward(problem.mean), covariance).denoiser()

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> Denoised:
        return Denoised(self.basis.inverse(self.inner(self.basis.forward(x), sigma).mean))

    def covariance(self, denoised: Denoised, sigma: torch.Tensor):
        raise NotImplementedError


class Impulses:
    """A source of noise that gives each draw its own items of the batch, one for each pixel."""

    def __init__(self, draws: int) -> None:
        self.draws, self.done = draws, 0

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        out = torch.zeros(1 + (self.draws + 1) * SIZE, SIZE, dtype=dtype)
        self.done += 1
        first = 1 + self.done * SIZE
        out[first : first + SIZE] = torch.eye(SIZE, dtype=dtype)
        return out.reshape(-1, *shape)


def last(states: Iterator[State]) -> State:
    *_, state = states
    return state


def law(
    process: Process, denoiser: Denoiser, solver: Solver, times: torch.Tensor, draws: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The exact mean and covariance, in process coordinates, of a walk from the exact start."""
    mean, covariance = in_coordinates(process)
    alpha, sigma = (flat(process, value(times[0])) for value in both(process))
    noisy = alpha[:, None] * covariance * alpha + torch.diag(sigma**2)
    x = torch.zeros(1 + (draws + 1) * SIZE, SIZE, dtype=torch.float64)
    x[1 : SIZE + 1] = torch.linalg.cholesky(noisy).T
    x = (x + alpha * mean).reshape(-1, *SHAPE)
    end = last(solver(process, denoiser, times, x, Impulses(draws))).x
    response = (end[1:] - end[0]).flatten(1)
    return end[0].flatten(), response.T @ response


def both(process: Process):
    return process.schedule.alpha, process.schedule.sigma


def flat(process: Process, coefficient: torch.Tensor) -> torch.Tensor:
    return coefficient.expand(SHAPE).flatten()


def in_coordinates(process: Process) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of clean pictures in process coordinates."""
    matrix = process.basis.forward(EYE.reshape(-1, *SHAPE)).flatten(1).T / process.scale
    mean = process.encode(PROBLEM.mean).flatten()
    return mean, matrix @ PROBLEM.covariance @ matrix.T


def joint_misfit(speed: str, solver: Solver, spoil=lambda denoiser: denoiser) -> float:
    """The largest error of the joint covariance at the last time, as a share of the largest."""
    schedule, basis = SPEEDS[speed]
    process, steps = Process(schedule, basis), 150
    times = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    draws = steps * DRAWS.get(solver, 1)
    _, found = law(process, spoil(InBasis(PROBLEM, basis)), solver, times, draws)
    _, exact = in_coordinates(process)
    exact = exact + torch.diag(flat(process, schedule.sigma(times[-1])) ** 2)
    return float((found - exact).abs().max() / exact.max())


@speeds
@every
def test_the_joint_law_is_that_of_the_pictures(solver: Solver, speed: str) -> None:
    assert joint_misfit(speed, solver) < 0.06


class OneLevel(Denoiser):
    """Takes the noisiest coordinate's level for that of all."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> Denoised:
        return self.denoiser(x, sigma.flatten(1).amax(1))

    def covariance(self, denoised: Denoised, sigma: torch.Tensor):
        raise NotImplementedError


@speeds
def test_the_joint_law_notices_a_denoiser_that_knows_one_speed(speed: str) -> None:
    """Negative control."""
    assert joint_misfit(speed, ddim, OneLevel) > 0.2


@every
def test_a_still_block_stays_and_the_rest_is_drawn_given_it(solver: Solver) -> None:
    process, steps = Process(per_block([1, 1], [EDM(), Still()]), center=0.5, scale=0.5), 150
    draws = steps * DRAWS.get(solver, 1)
    levels = torch.logspace(1, -3, steps, dtype=torch.float64)
    times = torch.cat([levels, torch.zeros(1, dtype=torch.float64)])
    y = PROBLEM.sample(1, 3)[:, 1:].expand(1 + (draws + 1) * 4, 1, 2, 2)
    own, other = slice(0, 4), slice(4, 8)
    cross = PROBLEM.covariance[own, other] @ PROBLEM.covariance[other, other].inverse()
    mean = PROBLEM.mean[:1].flatten() + cross @ (y[0] - PROBLEM.mean[1:]).flatten()
    covariance = PROBLEM.covariance[own, own] - cross @ PROBLEM.covariance[other, own]

    x = torch.zeros(len(y), 4, dtype=torch.float64)
    x[1:5] = torch.linalg.cholesky(covariance / 0.25 + 100 * torch.eye(4).double()).T
    x = (x + (mean - 0.5) / 0.5).reshape(-1, 1, 2, 2)
    given = (y - 0.5) / 0.5
    noise = BlockImpulses(draws)
    end = last(solver(process, PROBLEM.denoiser(), times, torch.cat([x, given], 1), noise)).x
    assert torch.equal(end[:, 1:], given)
    drawn = end[:, 0].flatten(1) * 0.5
    torch.testing.assert_close(drawn[0] + 0.5, mean, rtol=0, atol=1e-3)
    response = drawn[1:] - drawn[0]
    misfit = (response.T @ response - covariance).abs().max() / covariance.max()
    assert misfit < 0.12


class BlockImpulses:
    """Units of each draw for the first block; the second gets noise too, which must not matter."""

    def __init__(self, draws: int) -> None:
        self.draws, self.done = draws, 0

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        out = torch.zeros(1 + (self.draws + 1) * 4, SIZE, dtype=dtype)
        self.done += 1
        out[1 + self.done * 4 : 5 + self.done * 4, :4] = torch.eye(4, dtype=dtype)
        out[:, 4:] = 7.0
        return out.reshape(-1, *shape)


@every
@pytest.mark.parametrize("plain", [FAST, VP(), SubVP()], ids=lambda schedule: schedule.kind)
def test_equal_speeds_are_one_speed_bit_for_bit(solver: Solver, plain) -> None:
    times = torch.linspace(1, 0.01, 9, dtype=torch.float64)
    x = NoiseSource(range(3)).normal(SHAPE)

    def end(schedule) -> torch.Tensor:
        process = Process(schedule, center=0.5, scale=0.5)
        return last(solver(process, PROBLEM.denoiser(), times, x, NoiseSource([7, 8, 9]))).x

    assert torch.equal(end(per_block([1, 1], [plain, plain])), end(plain))
    assert torch.equal(end(per_pixel(torch.zeros(2, 2).long(), [plain])), end(plain))
    assert not torch.equal(end(per_block([1, 1], [plain, SLOW])), end(plain))


def test_batch_mates_do_not_matter_with_times_of_their_own() -> None:
    """One time for each picture makes one set of levels for each."""
    schedule = per_block([1, 1], [FAST, SLOW])
    process, x = Process(schedule), NoiseSource(range(2)).normal(SHAPE, torch.float64)
    times = torch.tensor([0.9, 0.2], dtype=torch.float64)
    together = process.denoise(PROBLEM.denoiser(), x, times).mean
    for i, t in enumerate(times):
        alone = process.denoise(PROBLEM.denoiser(), x[i : i + 1], t).mean
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", [(), (3,), (3, 2)])
def test_every_coordinate_has_its_own_schedule(shape: tuple[int, ...]) -> None:
    t = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    parts = (VP(), Still(), FAST)
    index = torch.tensor([[[0, 2, 1]]])
    schedule = Multispeed(parts, index)
    names = ("log_alpha", "alpha", "sigma", "dlog_alpha", "diffusion_squared", "log_snr")
    for name in (*names, "noise_level"):
        found = getattr(schedule, name)(t)
        assert found.shape == (*shape, 1, 1, 3)
        assert found.dtype == torch.float64
        for i, k in enumerate(index.flatten().tolist()):
            assert torch.equal(found[..., 0, 0, i], getattr(parts[k], name)(t))


def test_a_still_schedule() -> None:
    t = torch.linspace(0, 1, 3)
    still = Still()
    assert torch.equal(still.alpha(t), torch.ones(3, dtype=torch.float64))
    for value in (still.sigma, still.dlog_alpha, still.diffusion_squared, still.noise_level):
        assert torch.equal(value(t), torch.zeros(3, dtype=torch.float64))
    assert still.log_snr(0.5) == torch.inf
    with pytest.raises(InputError, match="'still' has no noise"):
        still.time(0.0)


def test_blocks_pixels_and_bands() -> None:
    assert per_block([3, 1], [FAST, SLOW]).index.tolist() == [[[0]], [[0]], [[0]], [[1]]]
    drawn = torch.tensor([[0, 1], [1, 0]])
    assert torch.equal(per_pixel(drawn, [FAST, SLOW]).index, drawn[None])
    each = torch.stack([drawn, 1 - drawn])
    assert torch.equal(per_pixel(each, [FAST, SLOW]).index, each)
    # Frequencies k/4 and l/2: 0.5 belongs to the band above it, hypot(0.5, 0.5) = 0.707.
    bands = per_band((4, 2), [0.5, 0.8], [FAST, SLOW, Still()]).index
    assert bands.tolist() == [[[0, 1], [0, 1], [1, 1], [1, 2]]]


@pytest.mark.parametrize("speed", [*SPEEDS.values()], ids=SPEEDS.keys())
def test_descriptions_survive_json(speed: tuple[Multispeed, Basis]) -> None:
    schedule, _ = speed
    again = schedule_from_config(json.loads(json.dumps(schedule.to_config())))
    assert isinstance(again, Multispeed)
    assert again.schedules == schedule.schedules
    assert torch.equal(again.index, schedule.index)
    assert schedule_from_config(Still().to_config()) == Still()


def test_refused() -> None:
    schedule = per_block([1, 1], [FAST, SLOW])
    with pytest.raises(InputError, match="in which its coordinates differ"):
        schedule.time(0.0)
    with pytest.raises(InputError, match=r"index: from 0 to 2 with 2 schedules"):
        per_pixel(torch.tensor([[0, 2]]), [FAST, SLOW])
    with pytest.raises(InputError, match=r"index: shape \(2,\) of torch.int64"):
        Multispeed((FAST,), torch.tensor([0, 0]))
    with pytest.raises(InputError, match=r"of torch.float32; give integers"):
        per_pixel(torch.zeros(2, 2), [FAST])
    with pytest.raises(InputError, match=r"schedules: \['multispeed'\]"):
        per_block([1], [schedule])
    with pytest.raises(InputError, match="channels, schedules"):
        per_block([1, 2], [FAST])
    with pytest.raises(InputError, match="edges, schedules"):
        per_band((2, 2), [0.5, 0.1], [FAST, SLOW, FAST])
    with pytest.raises(InputError, match="all are 'still'"):
        _ = per_block([1], [Still()]).reference
    times, x = torch.tensor([1.0, 0.5]), torch.zeros(1, *SHAPE)
    with pytest.raises(InputError, match="'multispeed', but UniPC"):
        next(unipc(Process(schedule), PROBLEM.denoiser(), times, x))


LEVELS = torch.tensor([0.05, 0.0, 3.0, 0.2, 0.0, 0.1, 0.7, 0.02], dtype=torch.float64)


def test_the_exact_denoiser_with_a_level_for_each_pixel() -> None:
    """Conditioning the joint Gaussian of x_0 and x by brute force; 0 is a known pixel."""
    x = PROBLEM.sample(3, 1)
    sigma = LEVELS.reshape(1, *SHAPE).expand(3, *SHAPE)
    denoised = PROBLEM.denoiser()(x, sigma)
    spread = PROBLEM.covariance + torch.diag(LEVELS**2)
    gain = PROBLEM.covariance @ spread.inverse()
    expected = PROBLEM.mean.flatten() + (x - PROBLEM.mean).flatten(1) @ gain.T
    torch.testing.assert_close(denoised.mean.flatten(1), expected, rtol=1e-9, atol=1e-11)
    known = LEVELS == 0
    torch.testing.assert_close(denoised.mean.flatten(1)[:, known], x.flatten(1)[:, known])
    left = PROBLEM.covariance - gain @ PROBLEM.covariance
    covariance = PROBLEM.denoiser().covariance(denoised, sigma)
    probes = EYE.reshape(-1, *SHAPE)
    applied = covariance.apply(probes).flatten(1)
    torch.testing.assert_close(applied, left, rtol=1e-8, atol=1e-12)
    assert denoised.variance is not None
    torch.testing.assert_close(
        denoised.variance.flatten(1), left.diagonal().expand(3, -1), rtol=1e-8, atol=1e-12
    )


def test_levels_of_each_picture_and_of_blocks() -> None:
    x = PROBLEM.sample(2, 1)
    denoiser = PROBLEM.denoiser()
    blocks = torch.tensor([[0.1, 5.0], [0.3, 0.0]], dtype=torch.float64)[:, :, None, None]
    together = denoiser(x, blocks).mean
    for i in range(2):
        alone = denoiser(x[i : i + 1], blocks[i : i + 1].expand(1, *SHAPE)).mean
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-12, atol=1e-14)
    same = torch.full((2, 1, 1, 1), 0.4, dtype=torch.float64)
    assert torch.equal(denoiser(x, same).mean, denoiser(x, same[:, 0, 0, 0]).mean)
    # What is not told apart by rank alone: levels of many orders of magnitude.
    wide = torch.tensor([1e-3, 78.0], dtype=torch.float64).reshape(1, 2, 1, 1).expand(2, 2, 1, 1)
    near = denoiser(x, wide).mean[:, :1]
    torch.testing.assert_close(near, x[:, :1], rtol=0, atol=2e-3)


def test_pictures_without_full_rank() -> None:
    """A second block that is a copy of the first, and known."""
    block = PROBLEM.covariance[:4, :4]
    copy = GaussianProblem(
        PROBLEM.mean[:1].repeat(2, 1, 1), torch.cat([torch.cat([block, block], 1)] * 2)
    )
    x = copy.sample(2, 4)
    noisy = x + torch.tensor([3.0, 0.0]).double()[:, None, None]
    levels = torch.tensor([10.0, 0.0], dtype=torch.float64).reshape(1, 2, 1, 1)
    found = copy.denoiser()(noisy, levels.expand(2, 2, 1, 1)).mean
    torch.testing.assert_close(found, x, rtol=0, atol=1e-6)
