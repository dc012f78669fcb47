"""Of which order are the solvers? Errors on problems whose probability flow is known.

    python benchmarks/solver_orders.py

Six-pixel pictures, float64, noise levels from 10 down to .02 evenly spaced in log-SNR: a Gaussian,
whose flow is in closed form, and a mixture of Gaussians, whose flow is refined with 2000 steps. The
order is the slope of the largest error against the number of steps, both logarithmic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from _report import Report
from torch import Tensor

from certes.diffusion.grids import log_sigma_grid
from certes.diffusion.noise import NoiseSource
from certes.diffusion.problems import GaussianProblem, MixtureProblem
from certes.diffusion.process import Process
from certes.diffusion.schedules import EDM
from certes.diffusion.solvers import State, ddim, dpm_solver_2m, unipc

SHAPE = (1, 2, 3)
HIGH, LOW = 10.0, 0.02
STEPS = (40, 80, 160, 320)
PROCESS = Process(EDM())

Walk = Callable[..., Iterator[State]]

# name: order that theory gives (UniPC-p with its corrector is of order p + 1), and the solver.
SOLVERS: dict[str, tuple[int, Walk]] = {
    "DDIM": (1, partial(ddim, noise=NoiseSource([]))),
    "DPM-Solver++ 2M": (2, partial(dpm_solver_2m, noise=NoiseSource([]))),
    "UniPC-2": (3, unipc),
    "UniPC-3": (4, partial(unipc, order=3)),
}


def problems() -> tuple[GaussianProblem, MixtureProblem]:
    generator = torch.Generator().manual_seed(3)
    roots = torch.randn(3, 6, 6, generator=generator, dtype=torch.float64)
    covariances = 0.03 * (roots @ roots.mT / 6 + 0.1 * torch.eye(6))
    means = torch.rand(3, *SHAPE, generator=generator, dtype=torch.float64)
    weights = torch.tensor([0.2, 0.3, 0.5])
    return GaussianProblem(means[0], covariances[0]), MixtureProblem(weights, means, covariances)


def start() -> Tensor:
    return HIGH * NoiseSource(range(4)).normal(SHAPE, torch.float64) + 0.5


def end(problem: GaussianProblem | MixtureProblem, solver: Walk, steps: int) -> Tensor:
    """Where a solver ends; the grid stops short of zero, where order has a meaning."""
    levels = log_sigma_grid(HIGH, LOW, steps + 1)[:-1]
    *_, state = solver(PROCESS, problem.denoiser(), levels, start())
    return state.x


def exact(problem: GaussianProblem | MixtureProblem) -> Tensor:
    if isinstance(problem, MixtureProblem):
        return end(problem, SOLVERS["UniPC-3"][1], 2000)
    variance = problem.eigenvalues
    shrink = ((variance + LOW**2) / (variance + HIGH**2)).sqrt()
    return problem.from_spectrum(problem.spectrum_of(start()) * shrink)


def slope(errors: list[float]) -> float:
    """Minus the least-squares slope of log error over log steps, steps doubling."""
    offsets = [i - (len(errors) - 1) / 2 for i in range(len(errors))]
    logs = [math.log2(error) for error in errors]
    products = sum(x * y for x, y in zip(offsets, logs, strict=True))
    return -products / sum(x * x for x in offsets)


def main() -> None:
    report = Report("solver_orders")
    print(f"{'':28s}" + "".join(f"{steps:>6d} steps" for steps in STEPS))
    for kind, problem in zip(("Gaussian", "mixture"), problems(), strict=True):
        reference = exact(problem)
        for name, (theory, solver) in SOLVERS.items():
            errors = [
                float((end(problem, solver, steps) - reference).abs().max()) for steps in STEPS
            ]
            print(f"{kind + ', ' + name:28s}" + "".join(f"{error:12.1e}" for error in errors))
            order = slope(errors)
            if theory == 4:  # its first steps, of lower order, still show at these counts
                target, holds = "more than 3 (4 in the limit)", order > 3
            else:
                target, holds = f"{theory} within 0.15", abs(order - theory) <= 0.15
            report.claim(f"{kind}, {name}: measured order", round(order, 2), target, holds)
    report.save()


if __name__ == "__main__":
    main()
