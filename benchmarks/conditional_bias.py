r"""How wrong are CDE, CMDE and CDiffE with perfect networks and as many steps as one likes?

    python benchmarks/conditional_bias.py

Gaussian pictures of 8x8 with a 1/f spectrum, half of them missing or seen by 4x super-resolution,
noise .02; exact scores of the noisy pairs, noise of x from 28 down to .002, 500 steps of the
reverse SDE. What differs from the posterior then is the estimator's own: it knows the score given
y_t, not given y. Judged by the ratio of pixel standard deviations, the coverage of the nominal 90 %
interval and the Wasserstein-2 distance over the posterior's size, from 2000 chains; as many exact
posterior samples stand beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, cast

import torch
from _report import Report
from conditional_solvers import pink
from jaxtyping import Float
from rich.progress import track
from torch import Tensor

import certes
from certes.conditional.estimators import Estimator, cde, cdiffe, cmde
from certes.conditional.policies import POLICIES, GivenCondition
from certes.conditional.sampling import levels_of
from certes.diffusion.noise import NoiseSource
from certes.diffusion.problems import ConditionalGaussian
from certes.diffusion.process import Process
from certes.diffusion.schedules import EDM, VE
from certes.diffusion.solvers.dpm_solver import dpm_solver_2m
from certes.evaluation.distributions import frechet_distance

SIDE, NOISE, HIGH, LOW = 8, 0.02, 28.0, 0.002
SHAPE = (1, SIDE, SIDE)
CHAINS, STEPS = 2000, 500
EXACT = "exact posterior samples"


class Stream(NoiseSource):
    """One stream for all chains: nobody asks here which chain gets what."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.generator = count, torch.Generator().manual_seed(seed)

    def normal(self, shape: Any, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(self.count, *shape, generator=self.generator, dtype=dtype)


def estimators() -> Iterator[tuple[str, Estimator, str]]:
    x = VE(LOW, HIGH)
    yield "CDE", cde(x), "fixed"
    for sigma_y in (0.01, 0.1, 1.0):
        for policy in ("fresh", "path"):
            yield f"CMDE {sigma_y:g}, {policy}", cmde(x, sigma_y, sigma_min=LOW), policy
    for policy in ("fresh", "path"):
        yield f"CDiffE, {policy}", cdiffe(x), policy


def draw(pairs: ConditionalGaussian, y: Tensor, estimator: Estimator, policy: str) -> Tensor:
    """Many chains for one measurement."""
    noise = Stream(CHAINS, seed=1)
    grid = levels_of(estimator, STEPS)
    seen = y.expand(CHAINS, *y.shape[1:])
    given = GivenCondition(pairs.denoiser(), POLICIES[policy](seen, estimator.y_level, noise))
    x = 0.5 + float(grid[0]) * noise.normal(SHAPE, torch.float64)
    states = dpm_solver_2m(Process(EDM()), given, grid, x, noise, eta=1.0)
    for state in track(states, total=STEPS, transient=True):
        x = state.x
    return x


def judged(
    samples: Float[Tensor, "k c h w"], mean: Tensor, covariance: Tensor
) -> tuple[float, float, float]:
    """Relative W2, median ratio of pixel standard deviations, coverage."""
    flat = samples.flatten(1)
    found = flat.mean(0), cast(Any, torch).cov(flat.T)
    distance = frechet_distance(*found, mean.flatten(), covariance)
    true, made = covariance.diagonal().sqrt(), found[1].diagonal().sqrt()
    bias, z = found[0] - mean.flatten(), 1.6448536269514722
    normal = torch.special.ndtr
    cover = (normal((bias + z * made) / true) - normal((bias - z * made) / true)).mean()
    relative = (distance / float(covariance.trace())) ** 0.5
    return relative, float((made / true).median()), float(cover)


def claims(report: Report, task: str, rows: dict[str, tuple[float, float, float]]) -> None:
    report.claim(
        f"{task}: coverage of the CDE at nominal .90 (exact samples {rows[EXACT][2]:.3f})",
        round(rows["CDE"][2], 3),
        ".89 to .91",
        0.89 <= rows["CDE"][2] <= 0.91,
    )
    for name in ("CMDE 1", "CDiffE"):
        fresh, path = rows[f"{name}, fresh"], rows[f"{name}, path"]
        report.claim(
            f"{task}: pixel std of {name} over the true one, fresh y_t; one path of y_t gives "
            f"{path[1]:.3f}",
            round(fresh[1], 3),
            "nearer to 1",
            abs(fresh[1] - 1) <= abs(path[1] - 1),
        )
    speeds = [
        rows[name][0] for name in ("CDE", "CMDE 0.1, fresh", "CMDE 1, fresh", "CDiffE, fresh")
    ]
    report.claim(
        f"{task}: relative W2 grows with the speed of y: CDE, CMDE .1, CMDE 1, CDiffE",
        " ".join(f"{value:.3f}" for value in speeds),
        "increasing (by less than the exact samples' own .01 does not count)",
        all(b > a - 0.01 for a, b in pairwise(speeds)),
    )


def main() -> None:
    report = Report("conditional_bias")
    problem = pink(SIDE)
    mask = torch.ones(SIDE, SIDE)
    mask[:, 2:6] = 0
    tasks = {
        "inpainting": certes.operators.Inpaint(SHAPE, mask),
        "super-resolution x4": certes.operators.SuperResolution(SHAPE, 4),
    }
    for task, H in tasks.items():
        pairs = ConditionalGaussian(problem, H, NOISE)
        _, y = pairs.sample(1, seed=0)
        mean, covariance = pairs.posterior(y)
        root = torch.linalg.cholesky(covariance + 1e-12 * torch.eye(len(covariance)))
        e = Stream(CHAINS, seed=2).normal((len(covariance),), torch.float64)
        exact = (mean.flatten() + e @ root.T).reshape(-1, *SHAPE)
        rows = {EXACT: judged(exact, mean, covariance)}
        for name, estimator, policy in estimators():
            rows[name] = judged(draw(pairs, y, estimator, policy), mean, covariance)
        print(f"\n{task}\n| estimator, y_t | relative W2 | pixel std ratio | coverage |")
        print("|---|---|---|---|")
        for name, row in rows.items():
            print("| {} | {:.3f} | {:.3f} | {:.3f} |".format(name, *row))
        claims(report, task, rows)
    report.save()


if __name__ == "__main__":
    main()
