r"""Reverse diffusion for what was rounded, JPEG above all: each value is known to lie in a cell.

Given :math:`x_0 | x_t \sim N(\hat x_0, P)`, each linear value is Gaussian, and that it lies in its
cell is worth a Gaussian look (:mod:`certes.restoration.cells`); all looks together move
:math:`\hat x_0` by the linear-Gaussian conditional mean, as in
:mod:`certes.restoration.samplers.conditional`. Looks are made anew at every noise level, from what
the denoiser knows there. The usual model of quantisation, noise of variance :math:`q^2 / 12`,
claims to know coefficients that were quantised to zero, which most are, better than they are known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.covariance import Covariance
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.grids import Grid, log_sigma_grid
from certes.diffusion.noise import NoiseSource
from certes.diffusion.process import Process
from certes.diffusion.schedules import EDM
from certes.diffusion.solvers.dpm_solver import dpm_solver_2m
from certes.diffusion.solvers.state import State
from certes.restoration.cells import looks_at_cells
from certes.restoration.conditional_mean import conditional_mean
from certes.restoration.measurement import Measurement
from certes.restoration.operators.rounded import RoundedOperator
from certes.restoration.samplers.conditional import ITERATIONS, DirectView
from certes.restoration.samplers.levels import SIGMA_MAX, finest_level

_PROBES = 6
_SEED = 0
# How far one probe, which may even come out negative, moves the estimate.
_FARTHEST = 10.0
# Image units squared: of values that see nothing, such as the detail in a block's repeated column.
_BLIND = 1e-12


@dataclass(frozen=True)
class RoundedMeasurement:
    """Cells in which linear values of pictures lie.

    Args:
        operator: what was measured.
        centres: of the cells, image units.
        noise: variance of each value that it had before it was rounded, image units squared.
    """

    operator: RoundedOperator
    centres: Float[Tensor, "b m"]
    noise: Float[Tensor, "b m"]


def cells(measurement: Measurement) -> RoundedMeasurement:
    """The cells behind decoded pictures; noise is that of the pixels before they were encoded."""
    operator = measurement.operator
    assert isinstance(operator, RoundedOperator)  # Method.takes was asked before
    once = len(measurement.y) // measurement.copies
    codes = operator.codes_of(measurement.y[:once]).repeat(measurement.copies, 1)
    variance = measurement.noise.to(codes) ** 2 + operator.grain**2
    pixels = variance[:, None, None, None].expand(-1, *operator.in_shape)
    return RoundedMeasurement(
        operator, operator.centres(codes), operator.linear.independent(pixels)
    )


def rounded_levels(measurement: RoundedMeasurement, steps: int) -> Grid:
    """From pure noise down to a level that is short against the finest cell."""
    finest = finest_level(measurement.operator.widths(measurement.centres) / 12**0.5)
    return log_sigma_grid(SIGMA_MAX, finest, steps)


def sample_rounded(
    measurement: RoundedMeasurement, denoiser: Denoiser, levels: Grid, noise: NoiseSource
) -> Iterator[State]:
    """Draw one posterior sample for every row of the measurement.

    Args:
        measurement: what is known.
        denoiser: the prior.
        levels: noise levels, descending to 0, image units; one network call for each step.
        noise: one stream for every row.
    """
    shape, dtype = measurement.operator.in_shape, measurement.centres.dtype
    x = 0.5 + float(levels[0]) * noise.normal(shape, dtype)
    informed = CellDenoiser(denoiser, measurement)
    return dpm_solver_2m(Process(EDM()), informed, levels, x, noise, eta=1.0)


class CellDenoiser(Denoiser):
    """A denoiser that also knows in which cells values lie.

    Args:
        denoiser: the prior.
        measurement: the cells; a row for each picture.
    """

    def __init__(self, denoiser: Denoiser, measurement: RoundedMeasurement) -> None:
        self.denoiser = denoiser
        self.measurement = measurement
        self.view = DirectView(measurement.operator.linear)

    def __call__(self, x: Float[Tensor, "b c h w"], sigma: Float[Tensor, " b"]) -> Denoised:
        denoised = self.denoiser(x, sigma)
        covariance = self.denoiser.covariance(denoised, sigma)
        known, mean = self.measurement, denoised.mean
        variance = value_variances(known.operator, covariance, mean) + known.noise
        widths = known.operator.widths(mean)
        looks, errors = looks_at_cells(self.view.rows_t(mean), variance, known.centres, widths)
        errors = errors + known.noise
        return Denoised(conditional_mean(mean, covariance, self.view, looks, errors, ITERATIONS))

    def covariance(self, denoised: Denoised, sigma: Float[Tensor, " b"]) -> Covariance:
        """That of the prior: what the measurement leaves of it is not worked out."""
        return self.denoiser.covariance(denoised, sigma)


def value_variances(
    operator: RoundedOperator, covariance: Covariance, like: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b m"]:
    r"""The diagonal of :math:`M P M^T`, nearly.

    It is that of independent errors, times a factor for every kind of value in a picture. The
    factor is found by random probes (Hutchinson's estimate of a diagonal), each scaled by what is
    known so far, lest the strongest values drown the others. Even an exact diagonal, a factor for
    every value, gave no better pictures: a network's covariance is not that exact.
    """
    white = operator.linear.independent(covariance.diagonal().to(like).expand_as(like))
    white = white.clamp(min=_BLIND)
    kinds, view = operator.kinds.beside(like), DirectView(operator.linear)
    seen = (white > _BLIND).to(like)

    def summed(values: Float[Tensor, "b m"]) -> Float[Tensor, "b kinds"]:
        return like.new_zeros(len(like), int(kinds.max()) + 1).index_add(1, kinds, values * seen)

    counts = summed(seen).clamp(min=1)
    factor = torch.ones_like(counts)
    generator = torch.Generator().manual_seed(_SEED)
    for _ in range(_PROBES):
        # The same signs for every picture: no answer depends on its batch.
        signs = 2 * torch.randint(2, white.shape[1:], generator=generator).to(white) - 1
        probe = signs * (white * factor[:, kinds]).rsqrt()
        change = summed(probe * view.rows_t(covariance.apply(view.rows(probe)))) / counts
        factor = factor * change.clamp(1 / _FARTHEST, _FARTHEST).sqrt()
    return white * factor[:, kinds]
