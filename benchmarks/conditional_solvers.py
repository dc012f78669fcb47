r"""Which solver, with how many calls? Conditional sampling where the posterior is known.

    python benchmarks/conditional_solvers.py

Gaussian pictures of 32x32 with a 1/f spectrum, seen by 8x super-resolution or with a quarter
missing, noise .02; the exact conditional score (a perfect CDE), noise from 80 down to .002. In the
eigenvectors of the posterior every solver treats each coefficient by itself, and on a Gaussian it
is linear, so that its law is computed and not sampled: a unit of every draw goes to a picture of
its own. Only the published predictor-corrector, whose Langevin steps depend on norms, is sampled.

Judged by the Wasserstein-2 distance to the posterior over the posterior's own size
:math:`\sqrt{\mathrm{tr} P}`, by the mean ratio of pixel standard deviations, and by the coverage of
the nominal 90 % interval of every pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from _report import Report
from jaxtyping import Float
from torch import Tensor

import certes
from certes.conditional.estimators import cde
from certes.conditional.model import ConditionalModel
from certes.conditional.restore import SOLVER, STEPS
from certes.conditional.tasks import Paired
from certes.diffusion.bases import CosineBasis
from certes.diffusion.covariance import Covariance
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.grids import Grid, karras_grid, log_sigma_grid
from certes.diffusion.noise import NoiseSource
from certes.diffusion.problems import ConditionalGaussian, GaussianProblem
from certes.diffusion.process import Process
from certes.diffusion.schedules import EDM, VE
from certes.diffusion.solvers.langevin import by_norms
from certes.diffusion.solvers.sampling import SOLVERS
from certes.diffusion.solvers.state import State
from certes.diffusion.solvers.unipc import unipc
from certes.intervals.quantiles import order_statistic

SIDE, NOISE, HIGH, LOW = 32, 0.02, 80.0, 0.002
SHAPE = (1, SIDE, SIDE)
CALLS = (8, 10, 15, 20, 35, 100, 1000)
CHAINS = 128  # of a solver that has to be sampled
Law = tuple[Float[Tensor, " n"], Float[Tensor, " n"]]
"""Mean and variance of every coefficient."""
Table = dict[tuple[str, int], tuple[float, float, float]]
"""By solver and number of calls: relative W2, ratio of pixel standard deviations, coverage."""


def _unipc(order: int) -> Callable[..., Iterator[State]]:
    return lambda process, denoiser, times, x, noise: unipc(process, denoiser, times, x, order)


LINEAR: dict[str, tuple[Callable[..., Iterator[State]], int]] = {
    "UniPC-3": (_unipc(3), 1),
    "UniPC-2": (_unipc(2), 1),
    "DPM-Solver++(2M)": (SOLVERS["dpm_solver_2m"], 1),
    "DPM-Solver++(2M) SDE": (SOLVERS["dpm_solver_2m_sde"], 1),
    "DDIM": (SOLVERS["ddim"], 1),
    "Heun, Karras' grid": (SOLVERS["heun"], 2),
    "reverse diffusion": (SOLVERS["reverse_diffusion"], 1),
}
"""Solvers and their calls a step."""
DRAWING = ("DPM-Solver++(2M) SDE", "reverse diffusion")
PUBLISHED = "predictor-corrector"


class Spectral(Denoiser):
    """The exact denoiser of independent coefficients about zero."""

    def __init__(self, variance: Float[Tensor, "c h w"]) -> None:
        self.variance = variance

    def __call__(self, x: Float[Tensor, "b c h w"], sigma: Float[Tensor, " b"]) -> Denoised:
        noise = (sigma**2)[:, None, None, None]
        return Denoised(x * self.variance / (self.variance + noise))

    def covariance(self, denoised: Denoised, sigma: Float[Tensor, " b"]) -> Covariance:
        raise NotImplementedError


class Impulses:
    """In place of noise: draw number i is one in picture i + 2 and zero elsewhere."""

    def __init__(self, count: int) -> None:
        self.count, self.drawn = count, 0

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        e = torch.zeros(self.count, *shape, dtype=dtype)
        e[2 + self.drawn] = 1
        self.drawn += 1
        return e


def last(states: Iterator[State]) -> Tensor:
    x = torch.empty(0)
    for state in states:  # a list of a thousand of them would not fit
        x = state.x
    return x


def law(
    solver: Callable[..., Iterator[State]],
    grid: Grid,
    variance: Float[Tensor, " n"],
    offset: Float[Tensor, " n"],
    draws: int,
) -> Law:
    """Of a linear solver. `offset` is how far from the true mean a chain starts."""
    x = torch.zeros(2 + draws, *SHAPE, dtype=torch.float64)
    x[0] = offset.reshape(SHAPE)
    x[1] = HIGH
    noise = Impulses(len(x))
    end = last(solver(Process(EDM()), Spectral(variance.reshape(SHAPE)), grid, x, noise))
    return end[0].flatten(), end[1:].square().sum(0).flatten()


def sampled_law(
    solver: Callable[..., Iterator[State]], grid: Grid, variance: Tensor, offset: Tensor
) -> Law:
    """Of any solver, from many chains."""
    noise = NoiseSource(range(CHAINS))
    x = offset.reshape(SHAPE) + HIGH * noise.normal(SHAPE, torch.float64)
    end = last(solver(Process(EDM()), Spectral(variance.reshape(SHAPE)), grid, x, noise))
    return end.mean(0).flatten(), end.var(0).flatten()


def judged(law: Law, variance: Tensor, vectors: Tensor) -> tuple[float, float, float]:
    """Relative W2, ratio of pixel standard deviations, coverage."""
    mean, found = law
    distance = mean.square().sum() + (found.sqrt() - variance.sqrt()).square().sum()
    squares = vectors**2
    true, made = (squares @ variance).sqrt(), (squares @ found).sqrt()
    bias = vectors @ mean
    z = 1.6448536269514722
    upper, lower = ((bias + sign * z * made) / true for sign in (1, -1))
    normal = torch.special.ndtr
    cover = (normal(upper) - normal(lower)).mean()
    return float((distance / variance.sum()).sqrt()), float((made / true).mean()), float(cover)


def pink(size: int, deviation: float = 0.25) -> GaussianProblem:
    """Pictures whose cosine coefficients have amplitudes proportional to 1 / f."""
    axis = torch.arange(size, dtype=torch.float64)
    power = 1 / (axis[:, None] ** 2 + axis**2).clamp(min=0.5)
    units = torch.eye(size**2, dtype=torch.float64).reshape(-1, 1, size, size)
    root = CosineBasis().inverse(units * power.sqrt()).flatten(1).T
    covariance = root @ root.T
    covariance *= deviation**2 / covariance.diagonal().mean()
    mean = torch.full((1, size, size), 0.5, dtype=torch.float64)
    return GaussianProblem(mean, (covariance + covariance.T) / 2)


def tasks() -> dict[str, certes.operators.Operator]:
    mask = torch.ones(SIDE, SIDE)
    mask[8:24, 8:24] = 0
    return {
        "super-resolution x8": certes.operators.SuperResolution(SHAPE, 8),
        "inpainting 25 %": certes.operators.Inpaint(SHAPE, mask),
    }


def through_the_door(pairs: ConditionalGaussian, report: Report, task: str) -> None:
    """The same default, by the call that users make, from samples."""
    _, y = pairs.sample(24, seed=5)
    model = ConditionalModel("exact", pairs.denoiser(), Flat(), cde(VE(LOW, HIGH)), 1, {}, "exact")
    posterior = certes.restore(y, model=model, samples=239)
    assert posterior.kept is not None
    k = order_statistic(239, 0.1)
    low = posterior.kept.kthvalue(k, dim=0).values
    high = posterior.kept.kthvalue(240 - k, dim=0).values
    mean, covariance = pairs.posterior(y)
    std = covariance.diagonal().sqrt().reshape(SHAPE)
    normal = torch.special.ndtr
    cover = float((normal((high - mean) / std) - normal((low - mean) / std)).mean())
    report.claim(
        f"{task}: coverage of certes.restore(y, model=...), {STEPS} calls, K = 239 (nominal .900)",
        round(cover, 4),
        ".89 to .91",
        0.89 <= cover <= 0.91,
    )


class Flat(Paired):
    """Conditions of any shape, shown as they are; pictures have the problem's."""

    def picture_shape(self, y: Tensor, channels: int) -> tuple[int, int, int]:
        return SHAPE


def main() -> None:
    report = Report("conditional_solvers")
    problem = pink(SIDE)
    for task, H in tasks().items():
        pairs = ConditionalGaussian(problem, H, NOISE)
        _, y = pairs.sample(1, seed=0)
        mean, covariance = pairs.posterior(y)
        variance, vectors = torch.linalg.eigh(covariance)
        variance = variance.clamp(min=1e-14)
        offset = vectors.T @ (0.5 - mean).flatten().double()
        table: Table = {}
        for calls in CALLS:
            for name, (solver, each) in LINEAR.items():
                steps = (calls + each - 1) // each
                grid = (karras_grid if "Karras" in name else log_sigma_grid)(HIGH, LOW, steps)
                draws = steps if name in DRAWING else 0
                found = law(solver, grid, variance, offset, draws)
                table[name, calls] = judged(found, variance, vectors)
            grid = log_sigma_grid(HIGH, LOW, calls // 2)
            pc = partial(SOLVERS["predictor_corrector"], snr=0.15, scale=by_norms)
            found = sampled_law(pc, grid, variance, offset)
            table[PUBLISHED, calls] = judged(found, variance, vectors)
        show(task, table)
        claim(report, task, table)
        through_the_door(pairs, report, task)
    report.save()


def show(task: str, table: Table) -> None:
    print(f"\n{task}: relative W2 | std ratio | coverage")
    names = [*LINEAR, PUBLISHED]
    print("| calls | " + " | ".join(names) + " |\n|---" * 1 + "|---" * len(names) + "|")
    for calls in CALLS:
        cells = ("{:.3f} / {:.2f} / {:.3f}".format(*table[name, calls]) for name in names)
        print(f"| {calls} | " + " | ".join(cells) + " |")


def claim(
    report: Report, task: str, table: dict[tuple[str, int], tuple[float, float, float]]
) -> None:
    distance, ratio, cover = table[DEFAULT, STEPS]
    report.claim(
        f"{task}: coverage of the default ({DEFAULT}, {STEPS} calls) at nominal .90",
        round(cover, 4),
        ".895 to .905",
        0.895 <= cover <= 0.905,
    )
    report.claim(
        f"{task}: relative W2 of the default (pixel std {ratio:.3f} of the true)",
        round(distance, 4),
        "under .02",
        distance < 0.02,
    )
    published = table[PUBLISHED, STEPS]
    report.claim(
        f"{task}: relative W2 of the published predictor-corrector with {STEPS} calls "
        f"(coverage {published[2]:.3f})",
        round(published[0], 3),
        "above .9",
        published[0] > 0.9,
    )


DEFAULT = {"unipc_3": "UniPC-3"}[SOLVER]

if __name__ == "__main__":
    main()
