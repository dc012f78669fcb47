r"""The covariance-aware posterior sampler: reverse diffusion pinned to the measurement.

In the operator's singular basis a measurement tells each coefficient up to noise :math:`a_i`.
That is the value of the diffusion path itself at noise level :math:`a_i` (the coupling of SNIPS and
DDRM, Kawar et al. 2021, 2022): above :math:`a_i` the path is the measurement plus fresh noise,
below it the coefficient diffuses back like any other. Denoising is then the plain reverse diffusion
started at the measurement, exact whatever the prior. What the path above :math:`a_i` has lost of
the measurement,

.. math:: r_i^{-1} = a_i^{-2} - \sigma_t^{-2},

enters through the linear-Gaussian conditional mean with the model's own error covariance
(:mod:`certes.restoration.conditional_mean`), which is exact for Gaussian pictures. The solver is
SDE-DPM-Solver++(2M) (Lu et al. 2022), each coefficient from its own noise level: multistep for few
calls, stochastic because noise forgives network error.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.grids import log_sigma_grid
from certes.diffusion.noise import NoiseSource
from certes.diffusion.process import ddim_transition
from certes.diffusion.solvers.state import State, steps_of
from certes.restoration.conditional_mean import conditional_mean
from certes.restoration.measurement import SpectralMeasurement
from certes.restoration.samplers.levels import SIGMA_MAX, finest_level

Coefficients = Float[Tensor, "b n"]

# A look whose noise is within this factor of the path's own adds nothing but a division by zero.
_INFORMATIVE = 0.999


def noise_levels(measurement: SpectralMeasurement, steps: int) -> Float[Tensor, " steps_and_end"]:
    """The grid, from the level at which the measurement leaves something open, then 0."""
    a = measurement.levels
    end = finest_level(a)
    start = float(a.max().clamp(2 * end, SIGMA_MAX))
    levels = log_sigma_grid(start, end, steps)
    # exp(log(start)) may fall short of start by a rounding error; the measurement would be missed.
    levels[0] = start
    return levels


def sample_pinned(
    measurement: SpectralMeasurement,
    denoiser: Denoiser,
    levels: Float[Tensor, " steps_and_end"],
    noise: NoiseSource,
) -> Iterator[State]:
    """Draw one posterior sample for every picture of the measurement.

    Args:
        measurement: what is known.
        denoiser: the prior.
        levels: noise levels, descending to 0, image units; one network call for each step.
        noise: one stream for every picture.

    Yields:
        ``State(t, x, estimate)``: the level reached, the path there, and the ``E[x_0 | x, y]`` that
        the step believed in. The last ``x`` is the sample.
    """
    operator, a = measurement.operator, measurement.levels
    fresh = noise.normal((operator.n,), a.dtype)
    # Unseen coefficients start as pure noise about mid-grey; the first step forgets where.
    grey = torch.full((1, *operator.in_shape), 0.5, dtype=a.dtype, device=a.device)
    path = _pin(measurement, operator.Vt(grey) + levels[0].to(a) * fresh, levels[0], fresh)
    x = operator.V(path)
    before: tuple[Tensor, Coefficients] | None = None
    for t, s in steps_of(levels):
        estimate = _estimate(denoiser, measurement, x, path, float(t))
        target = middle = operator.Vt(estimate)
        start = a.clamp(max=float(t))
        if before is not None and s > 0:
            middle = target + _extrapolation(before[0], t, start, s) * (target - before[1])
        before = t, target
        # Each coefficient moves from where it was last known: the measurement, or the path.
        begin = torch.where(a < t, measurement.values, path)
        fresh = noise.normal((operator.n,), a.dtype)
        path = _pin(measurement, _move(begin, middle, start, s, fresh), s, fresh)
        x = operator.V(path)
        yield State(float(s), x, estimate)


def _estimate(
    denoiser: Denoiser,
    measurement: SpectralMeasurement,
    x: Float[Tensor, "b c h w"],
    path: Coefficients,
    sigma: float,
) -> Float[Tensor, "b c h w"]:
    """``E[x_0 | x_t, y]``: the denoiser's answer, moved by what the path has lost of ``y``."""
    a, level = measurement.levels, x.new_full((len(x),), sigma)
    denoised = denoiser(x, level)
    informative = a < _INFORMATIVE * sigma
    if not bool(informative.any()):
        return denoised.mean
    share = torch.where(informative, (a / sigma) ** 2, 0.0)
    return conditional_mean(
        denoised.mean,
        denoiser.covariance(denoised, level),
        measurement.operator,
        looks=(measurement.values - share * path) / (1 - share),
        variances=torch.where(informative, a**2 / (1 - share), torch.inf),
    )


def _pin(
    measurement: SpectralMeasurement, free: Coefficients, sigma: Tensor, fresh: Coefficients
) -> Tensor:
    """The path at ``sigma``: measurement plus fresh noise where that is noisier, else ``free``."""
    a, sigma = measurement.levels, sigma.to(free)
    spread = (sigma**2 - a**2).clamp(min=0).sqrt()
    return torch.where((a <= sigma) & (sigma > 0), measurement.values + spread * fresh, free)


def _move(
    begin: Coefficients, x0: Coefficients, start: Coefficients, s: Tensor, fresh: Coefficients
) -> Coefficients:
    """A draw from ``q(x_s | x_start, x_0)``, each coefficient from its own level."""
    one, s = torch.ones_like(start), s.to(start)
    # Coefficients that s has not reached yet are pinned afterwards; for them start = s is as good.
    step = ddim_transition(one, start.clamp(min=float(s)).clamp(min=1e-30), one, s, eta=1.0)
    return step.a * begin + step.b * x0 + step.std * fresh


def _extrapolation(before: Tensor, t: Tensor, start: Coefficients, s: Tensor) -> Coefficients:
    """Weight of the estimate's last change: from ``t`` to the middle of each coefficient's step."""
    middle = (start.clamp(min=float(s)).log() + math.log(float(s))) / 2
    return (math.log(float(t)) - middle) / math.log(float(before / t))
