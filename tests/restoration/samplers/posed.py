"""Gaussian problems with a measurement, and how good answers to them are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from certes.diffusion.noise import NoiseSource
from certes.diffusion.problems import GaussianProblem
from certes.restoration.measurement import Measurement
from certes.restoration.operators import Blur, DecomposedOperator, Denoise, Inpaint, SuperResolution
from certes.restoration.operators.kernels import gaussian_kernel
from certes.restoration.samplers import SAMPLERS

from ..laws import field, last, law

Z = 1.6448536269514722  # of a nominal 90 % interval
NOISE = 0.05


@dataclass(frozen=True)
class Posed:
    """A measurement of a draw from a Gaussian field, and its exact posterior."""

    problem: GaussianProblem
    measurement: Measurement
    mean: Tensor
    covariance: Tensor


@dataclass(frozen=True)
class Verdict:
    """Averages over pixels.

    Args:
        coverage: of the nominal 90 % interval.
        spread: the answers' deviation over the true one.
        error: of the mean, root mean square, in true deviations.
    """

    coverage: float
    spread: float
    error: float

    @property
    def calibrated(self) -> bool:
        return 0.88 < self.coverage < 0.92 and abs(self.spread - 1) < 0.05


def tasks(side: int = 8) -> dict[str, DecomposedOperator]:
    shape = (1, side, side)
    mask = torch.rand(side, side, generator=torch.Generator().manual_seed(1)) < 0.4
    return {
        "inpaint": Inpaint(shape, mask),
        "super-resolve": SuperResolution(shape, side // 2),
        "deblur": Blur(shape, gaussian_kernel(0.8), "reflect"),
        "denoise": Denoise(shape),
    }


def posed(task: str, noise: float = NOISE, side: int = 8) -> Posed:
    H = tasks(side)[task]
    problem = field(H.in_shape, 0.05 if task == "denoise" else 0.15, 2.0)
    e = torch.randn(1, *H.out_shape, generator=torch.Generator().manual_seed(3)).double()
    y = H(problem.sample(1, 7)) + noise * e
    mean, covariance = problem.posterior(y, H, noise)
    level = torch.tensor([noise], dtype=torch.float64)
    return Posed(problem, Measurement(H, y, level), mean.flatten(), covariance)


def affine_answers(sampler: str, case: Posed, steps: int) -> tuple[Tensor, Tensor]:
    """Mean and covariance, of a sampler that is affine in its noise: no sampling error."""
    method = SAMPLERS[sampler]
    view = method.view(case.measurement)
    return law(method.draw, view, case.problem.denoiser(), method.grid(view, steps))


def drawn(sampler: str, case: Posed, steps: int, count: int, **options: float) -> Tensor:
    """Answers (count, n)."""
    method, measurement = SAMPLERS[sampler], case.measurement
    grid = method.grid(method.view(measurement), steps)
    view, noise = method.view(measurement.repeat(count)), NoiseSource(range(count))
    states = method.draw(view, case.problem.denoiser(), grid, noise, **options)
    return last(states).x.flatten(1)


def moments(samples: Tensor) -> tuple[Tensor, Tensor]:
    return samples.mean(0), samples.T.cov()


def judged(answers: tuple[Tensor, Tensor], case: Posed) -> Verdict:
    """What answers with this mean and covariance, taken as Gaussian, are worth."""
    std, exact = answers[1].diagonal().sqrt(), case.covariance.diagonal().sqrt()
    low, high = ((answers[0] + side * Z * std - case.mean) / exact for side in (-1, 1))
    coverage = (torch.special.ndtr(high) - torch.special.ndtr(low)).mean()
    error = ((answers[0] - case.mean) / exact).square().mean().sqrt()
    return Verdict(float(coverage), float((std / exact).mean()), float(error))


def noise_free(task: str) -> Posed:
    case = posed(task)
    measurement = case.measurement
    exact = replace(measurement, y=measurement.operator(case.problem.sample(1, 7)))
    return replace(case, measurement=replace(exact, noise=torch.zeros_like(exact.noise)))
