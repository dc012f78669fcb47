r"""Reverse diffusion with :math:`E[x_0 | x_t, y]` in place of :math:`E[x_0 | x_t]`: any linear H.

Given :math:`x_0 | x_t \sim N(\hat x_0, P)` the measurement moves the denoiser's answer to

.. math:: E[x_0 | x_t, y] = \hat x_0 + P H^T (H P H^T + \sigma_y^2 I)^{-1} (y - H \hat x_0),

found by conjugate gradients from H and its adjoint alone. Exact for Gaussian pictures with the
exact :math:`P`. With :math:`P = v I` this is PiGDM's guidance (Song et al. 2023), with the Jacobian
MMPS's (Rozet et al. 2024, arXiv:2405.13712). For operators that no cheap transform diagonalises;
where one does, :mod:`certes.restoration.samplers.pinned` needs fewer steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from certes.diffusion.covariance import Covariance
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.grids import Grid
from certes.diffusion.noise import NoiseSource
from certes.diffusion.process import Process
from certes.diffusion.schedules import EDM
from certes.diffusion.solvers.dpm_solver import dpm_solver_2m
from certes.diffusion.solvers.state import State
from certes.restoration.conditional_mean import conditional_mean
from certes.restoration.measurement import Measurement
from certes.restoration.operators.base import LinearOperator

# The rows of H are neither orthogonal nor of one length: more iterations than in a singular basis.
ITERATIONS = 25


def sample_conditional(
    measurement: Measurement, denoiser: Denoiser, levels: Grid, noise: NoiseSource
) -> Iterator[State]:
    """Draw one posterior sample for every row of the measurement.

    Args:
        measurement: what is known, by a linear operator.
        denoiser: the prior.
        levels: noise levels, descending to 0, image units; one network call for each step.
        noise: one stream for every row.
    """
    operator, y = measurement.operator, measurement.y
    x = 0.5 + float(levels[0]) * noise.normal(operator.in_shape, y.dtype)
    informed = InformedDenoiser(denoiser, measurement)
    return dpm_solver_2m(Process(EDM()), informed, levels, x, noise, eta=1.0)


class InformedDenoiser(Denoiser):
    """A denoiser that also knows a measurement: ``E[x_0 | x_t, y]``.

    Args:
        denoiser: the prior.
        measurement: what is known, by a linear operator; a row for each picture.
    """

    def __init__(self, denoiser: Denoiser, measurement: Measurement) -> None:
        assert isinstance(measurement.operator, LinearOperator)
        self.denoiser = denoiser
        self.view = DirectView(measurement.operator)
        self.looks = measurement.y.flatten(1)
        noise = measurement.noise.to(self.looks).reshape(len(self.looks), -1)
        self.variances = noise.square().expand_as(self.looks)

    def __call__(self, x: Float[Tensor, "b c h w"], sigma: Float[Tensor, " b"]) -> Denoised:
        denoised = self.denoiser(x, sigma)
        covariance = self.denoiser.covariance(denoised, sigma)
        looks, variances = self.looks, self.variances
        return Denoised(
            conditional_mean(denoised.mean, covariance, self.view, looks, variances, ITERATIONS)
        )

    def covariance(self, denoised: Denoised, sigma: Float[Tensor, " b"]) -> Covariance:
        """That of the prior: what the measurement leaves of it is not worked out."""
        return self.denoiser.covariance(denoised, sigma)


@dataclass(frozen=True)
class DirectView:
    """A measurement looked at as it is, without singular vectors."""

    operator: LinearOperator

    def rows_t(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b m"]:
        """``H x``."""
        return self.operator(x).flatten(1)

    def rows(self, coefficients: Float[Tensor, "b m"]) -> Float[Tensor, "b c h w"]:
        """``H^T y``."""
        return self.operator.adjoint(coefficients.reshape(-1, *self.operator.out_shape))
