r"""Twisted sequential Monte Carlo (Wu et al. 2023, arXiv:2306.17775): exact for many samples.

All K samples of a picture are one cloud of particles, weighted so that, as K grows, their law tends
to the exact posterior under the prior that the unconditional chain draws from, however crude the
guidance. The chain is SDE-DPM-Solver++(2M), :math:`p(x_s | x_t) = N(m_{ts}, \sigma_{s|t}^2)`. Its
guided form proposes: the same step with the conditional mean :math:`E[x_0 | x_t, y]`
(:mod:`certes.restoration.conditional_mean`) in the place of :math:`E[x_0 | x_t]`. A particle that
was so proposed gains the weight

.. math::
    w_s = \frac{p(x_s | x_t)\, \tilde p(y | x_s)}{\tilde p(x_s | x_t, y)\, \tilde p(y | x_t)},
    \qquad \tilde p(y | x_t) = \prod_i N(\bar y_i; \hat x_i, a_i^2 + v_i),

the twisting function in the operator's singular basis, :math:`v` the variance of the denoiser's
error, one for the coefficients that H sees and one for the others. The last step draws from
:math:`N(\hat x_0, v)` given the measurement, and weighs nothing: the twisting function is the
likelihood then, and both are Gaussian.

A cloud whose effective size has fallen under K / 2 is drawn anew from itself by systematic
resampling, and so is every cloud at the end, so that what is returned counts equally. The price: K
must grow with what there is to tell apart. A handful of values needs a few dozen particles; at 64 x
64 pixels, clouds of 8 collapsed to one ancestor at most levels, and covered .2 to .3 where .78
would have been right.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from certes.diffusion.covariance import Covariance
from certes.diffusion.denoiser import Denoiser
from certes.diffusion.grids import Grid, log_sigma_grid
from certes.diffusion.noise import NoiseSource
from certes.diffusion.process import ddim_transition
from certes.diffusion.solvers.dpm_solver import extrapolation
from certes.diffusion.solvers.sampling import SIGMA_MAX
from certes.diffusion.solvers.state import State, steps_of
from certes.restoration.conditional_mean import conditional_mean
from certes.restoration.measurement import Measurement, SpectralMeasurement, measure
from certes.restoration.operators.base import DecomposedOperator
from certes.restoration.samplers.levels import finest_level

Coefficients = Float[Tensor, "rows n"]

# A denoiser may be sure to the last bit; a share of the noise's variance keeps densities finite.
_SUREST = 1e-8


def twisted_levels(measurement: Measurement, steps: int) -> Grid:
    """From where the prior starts, which is part of the weights, to short against the noise."""
    return log_sigma_grid(SIGMA_MAX, finest_level(measurement.noise), steps)


def sample_twisted(
    measurement: Measurement, denoiser: Denoiser, levels: Grid, noise: NoiseSource
) -> Iterator[State]:
    """Draw one posterior sample for every row of the measurement, those of a picture together.

    Args:
        measurement: what is known, by a decomposed operator; its ``copies`` are the particles.
        denoiser: the prior.
        levels: noise levels, descending to 0, image units; one network call for each step.
        noise: one stream for every row; that of a picture's first copy also resamples.
    """
    operator, copies = measurement.operator, measurement.copies
    assert isinstance(operator, DecomposedOperator)
    known = measure(operator, measurement.y, measurement.noise)
    grey = torch.full((1, *operator.in_shape), 0.5).to(measurement.y)
    path = operator.Vt(grey) + float(levels[0]) * noise.normal((operator.n,), grey.dtype)
    weights = torch.zeros(copies, len(path) // copies, dtype=torch.float64, device=path.device)
    gained, before = torch.zeros(()), None
    for t, s in steps_of(levels):
        belief = _belief(known, denoiser, path, float(t))
        weights = weights + (belief.twist + gained).reshape(weights.shape)
        rows, weights = _survivors(weights, _uniform(noise, weights))
        path, known, belief = path[rows], _at(known, rows), belief.at(rows)
        before = None if before is None else (before[0], before[1].at(rows))
        fresh = noise.normal((operator.n,), path.dtype)
        if s > 0:
            path, gained = _proposed(path, belief, before, t, s, fresh)
            gained, before = gained - belief.twist, (t, belief)
            yield State(float(s), operator.V(path), operator.V(belief.informed))
        else:
            rows = _systematic(weights.softmax(0), _uniform(noise, weights))
            path = _ended(known, belief, fresh)[rows]
            yield State(0.0, operator.V(path), operator.V(belief.informed[rows]))


@dataclass(frozen=True)
class _Belief:
    """What is believed of the picture at a particle.

    Args:
        plain: ``E[x_0 | x_t]``.
        informed: ``E[x_0 | x_t, y]``.
        variance: of the denoiser's error.
        twist: the log of the twisting function, float64.
    """

    plain: Coefficients
    informed: Coefficients
    variance: Coefficients
    twist: Float[Tensor, " rows"]

    def at(self, rows: Int[Tensor, " rows"]) -> _Belief:
        """That of other particles."""
        parts = self.plain, self.informed, self.variance, self.twist
        return _Belief(*(part[rows] for part in parts))


def _belief(
    known: SpectralMeasurement, denoiser: Denoiser, path: Coefficients, sigma: float
) -> _Belief:
    operator, x = known.operator, known.operator.V(path)
    level = x.new_full((len(x),), sigma)
    denoised = denoiser(x, level)
    covariance = denoiser.covariance(denoised, level)
    informed = conditional_mean(
        denoised.mean, covariance, operator, looks=known.values, variances=known.levels**2
    )
    plain = operator.Vt(denoised.mean)
    variance = _variance(known, covariance, path).clamp(min=_SUREST * sigma**2)
    twist = _twist(known, plain, variance)
    return _Belief(plain, operator.Vt(informed), variance, twist)


def _variance(
    known: SpectralMeasurement, covariance: Covariance, like: Coefficients
) -> Coefficients:
    """Of the denoiser's error: the mean over what H sees, by one probe, and over everything."""
    seen = torch.isfinite(known.levels[:1]).to(like)
    generator = torch.Generator().manual_seed(0)
    signs = 2.0 * torch.randint(2, seen.shape, generator=generator) - 1
    probe = (seen * signs.to(like)).expand_as(like)
    image = known.operator.Vt(covariance.apply(known.operator.V(probe)))
    within = (probe * image).sum(1, keepdim=True) / seen.sum()
    overall = covariance.diagonal().mean((1, 2, 3)).to(like)[:, None]
    return torch.where(seen > 0, within.clamp(min=0), overall)


def _twist(
    known: SpectralMeasurement, plain: Coefficients, variance: Coefficients
) -> Float[Tensor, " rows"]:
    spread = (known.levels**2 + variance).double()
    logs = (known.values - plain).double() ** 2 / spread + (2 * math.pi * spread).log()
    return -0.5 * torch.where(torch.isfinite(known.levels), logs, 0.0).sum(1)


def _proposed(
    path: Coefficients,
    belief: _Belief,
    before: tuple[Tensor, _Belief] | None,
    t: Float[Tensor, ""],
    s: Float[Tensor, ""],
    fresh: Coefficients,
) -> tuple[Coefficients, Float[Tensor, " rows"]]:
    """Particles a step on, and the log of how much likelier the chain is to make that step."""
    plain, informed = belief.plain, belief.informed
    if before is not None:
        weight = float(extrapolation(*(-2 * level.log() for level in (before[0], t, s))))
        plain = plain + weight * (plain - before[1].plain)
        informed = informed + weight * (informed - before[1].informed)
    one = torch.ones_like(t)
    step = ddim_transition(one, t, one, s, eta=1.0)
    a, b, std = float(step.a), float(step.b), float(step.std)
    # Both are normal with one variance, so that only the way between their means counts.
    shift = (b / std * (informed - plain)).double()
    ratio = -(shift * (fresh.double() + shift / 2)).sum(1)
    return a * path + b * informed + std * fresh, ratio


def _ended(known: SpectralMeasurement, belief: _Belief, fresh: Coefficients) -> Coefficients:
    """Draws from ``N(plain, variance)`` given the measurement."""
    gain = belief.variance / (belief.variance + known.levels**2)
    mean = belief.plain + gain * (known.values - belief.plain)
    return mean + (belief.variance * (1 - gain)).sqrt() * fresh


def _at(known: SpectralMeasurement, rows: Int[Tensor, " rows"]) -> SpectralMeasurement:
    """Particles keep the noise level that they were given; the values are their picture's."""
    return known if len(known.levels) == 1 else replace(known, levels=known.levels[rows])


def _survivors(
    weights: Float[Tensor, "copies b"], uniform: Float[Tensor, " b"]
) -> tuple[Int[Tensor, " rows"], Float[Tensor, "copies b"]]:
    """Which particles live on, and their log-weights: clouds that are too uneven start afresh."""
    shares = weights.softmax(0)
    uneven = shares.square().sum(0) > 2 / len(shares)
    everyone = torch.arange(weights.numel(), device=weights.device)
    drawn = _systematic(shares, uniform).reshape(weights.shape)
    rows = torch.where(uneven, drawn, everyone.reshape(weights.shape))
    return rows.flatten(), torch.where(uneven, 0.0, weights)


def _systematic(
    shares: Float[Tensor, "copies b"], uniform: Float[Tensor, " b"]
) -> Int[Tensor, " rows"]:
    """Rows drawn in proportion to their shares, evenly spaced (Kitagawa 1996)."""
    copies, pictures = shares.shape
    edges = shares.cumsum(0)
    steps = torch.arange(copies, device=shares.device)[:, None]
    positions = (steps + uniform) / copies * edges[-1]
    chosen = torch.searchsorted(edges.T.contiguous(), positions.T.contiguous(), right=True).T
    rows = chosen.clamp(max=copies - 1) * pictures + torch.arange(pictures, device=shares.device)
    return rows.flatten()


def _uniform(noise: NoiseSource, weights: Float[Tensor, "copies b"]) -> Float[Tensor, " b"]:
    """One number for each picture, from the stream of its first copy."""
    deviates = noise.normal((), torch.float64)[: weights.shape[1]]
    return (1 + (deviates / 2**0.5).erf()) / 2
