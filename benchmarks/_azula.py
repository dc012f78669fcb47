"""azula's guided samplers on certes' operators and denoisers (azula 0.11).

Everything that samples is azula's own code. Its denoisers see pictures scaled to [-1, 1] and
flattened (its linear solvers work along the last axis), its operators are linear, so that mid-grey,
their zero, is taken off the measurement. K samples are one batch of K copies of the measurement.

azula leaves schedule and stochasticity to the user. Of its VP, VE, cosine, rectified and decay
schedules and of eta 0 and 1 each method has what did best in a trial at 20 calls on a Gaussian
field. Moment matching solves with one GMRES iteration by default and is shown with five as well.
Its PiGDM knows no noise: singular values in which a coefficient of standard deviation 1/2 is
smaller than the noise count as zero in the pseudo-inverse, without which deblurring diverges.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from azula.denoise import Denoiser as AzulaDenoiser
from azula.denoise import DiracPosterior
from azula.guidance.diffpir import DiffPIRDenoiser
from azula.guidance.mmps import MMPSDenoiser
from azula.guidance.pgdm import PGDMSampler
from azula.linalg.covariance import IsotropicCovariance
from azula.noise import Schedule, VESchedule, VPSchedule
from azula.sample import DDIMSampler, Sampler
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.restoration.operators import DecomposedOperator
from certes.restoration.operators.base import padded

GREY, UNIT = 0.5, 0.5
"""Image value that azula's samplers see as 0, and image units for one of theirs."""


class Wrapped(AzulaDenoiser):
    """A denoiser of certes on flattened pictures in [-1, 1]."""

    def __init__(self, denoiser: Denoiser, shape: tuple[int, int, int], schedule: Schedule) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.shape = shape
        self.schedule = schedule

    def forward(self, x_t: Tensor, t: Tensor, **_: Any) -> DiracPosterior:
        alpha, sigma = self.schedule(t)
        x = GREY + UNIT * (x_t / alpha).reshape(-1, *self.shape)
        mean = self.denoiser(x, (UNIT * sigma / alpha).to(x).expand(len(x))).mean
        return DiracPosterior(((mean - GREY) / UNIT).flatten(1))


@dataclass(frozen=True)
class Problem:
    """A batch of measurements in azula's units: ``y = A(x)`` plus noise, A linear."""

    H: DecomposedOperator
    y: Tensor
    noise: float

    def A(self, x: Tensor) -> Tensor:
        return self.H(UNIT * x.reshape(-1, *self.H.in_shape)).flatten(1)

    def A_inv(self, y: Tensor) -> Tensor:
        s = self.H.spectrum.to(y)
        kept = s > self.noise / UNIT
        coefficients = padded(self.H.Ut(y.reshape(-1, *self.H.out_shape)), self.H.n)
        coefficients = torch.where(kept, coefficients / torch.where(kept, s, 1.0), 0.0)
        return (self.H.V(coefficients) / UNIT).flatten(1)


def problem_of(y: Tensor, H: DecomposedOperator, noise: float, samples: int) -> Problem:
    """``samples`` copies of the whole batch, one after another."""
    centred = (y - H(torch.full((1, *H.in_shape), GREY))).flatten(1)
    return Problem(H, centred.repeat(samples, 1), noise)


def mmps(denoiser: Wrapped, problem: Problem, iterations: int, steps: int) -> Sampler:
    """Moment matching posterior sampling, which differentiates the denoiser."""
    cov_y = IsotropicCovariance(torch.tensor(problem.noise**2))
    guided = MMPSDenoiser(denoiser, problem.y, problem.A, cov_y, iterations=iterations)
    return DDIMSampler(guided, eta=0.0, steps=steps, silent=True)


def pigdm(denoiser: Wrapped, problem: Problem, steps: int) -> Sampler:
    """Pseudo-inverse guidance, likewise."""
    y, A, A_inv = problem.y, problem.A, problem.A_inv
    return PGDMSampler(denoiser, y, A, A_inv, eta=1.0, steps=steps, silent=True)


def diffpir(denoiser: Wrapped, problem: Problem, steps: int) -> Sampler:
    """DiffPIR, lambda 10 as by default."""
    guided = DiffPIRDenoiser(denoiser, problem.y, problem.A, problem.noise**2)
    return DDIMSampler(guided, eta=0.0, steps=steps, silent=True)


@dataclass(frozen=True)
class Peer:
    """A sampler of azula.

    Args:
        make: from a denoiser and a problem.
        schedule: the noise schedule with which it does best.
    """

    make: Callable[[Wrapped, Problem], Sampler]
    schedule: Schedule

    def draw(
        self,
        y: Tensor,
        H: DecomposedOperator,
        denoiser: Denoiser,
        noise: float,
        samples: int,
        seed: int = 0,
    ) -> Tensor:
        """(k, b, c, h, w) samples, as they fell."""
        problem = problem_of(y, H, noise, samples)
        sampler = self.make(Wrapped(denoiser, H.in_shape, self.schedule), problem)
        torch.manual_seed(seed)
        x = sampler(sampler.init((len(problem.y), H.n))).detach()
        return (GREY + UNIT * x).reshape(samples, len(y), *H.in_shape)


def peers(calls: int) -> dict[str, Peer]:
    """All of them, at this number of network calls."""
    wide, vp = VESchedule(1e-3, 10.0), VPSchedule()
    return {
        "azula MMPS": Peer(partial(mmps, iterations=1, steps=calls), wide),
        "azula MMPS, 5 iterations": Peer(partial(mmps, iterations=5, steps=calls), wide),
        "azula PiGDM": Peer(partial(pigdm, steps=calls), vp),
        "azula DiffPIR": Peer(partial(diffpir, steps=calls), vp),
    }
