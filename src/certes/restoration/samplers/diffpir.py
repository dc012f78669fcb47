r"""DiffPIR (Zhu et al. 2023, arXiv:2305.08995, algorithm 1): plug-and-play within DDIM.

At every level the denoiser's answer :math:`\hat x` is moved towards the measurement by a proximal
step, and the path goes on from there, a part :math:`\zeta` of its noise fresh:

.. math::
    \hat x' = \arg\min_x \|y - H x\|^2 + \rho_t \|x - \hat x\|^2, \qquad
    \rho_t = \lambda\, \sigma_y^2 / \sigma_t^2,

    x_s = \hat x' + \sigma_s \left(\sqrt{1-\zeta}\, (x_t - \hat x') / \sigma_t
          + \sqrt{\zeta}\, e\right).

The proximal step is :math:`\hat x + H^T (H H^T + \rho_t)^{-1} (y - H \hat x)`, found by conjugate
gradients from H and its adjoint alone. As in the paper it is made at every level; the authors' code
leaves it out of the last.

No posterior sampler: the proximal step believes that the error of the denoiser is white and
:math:`\sigma_t / \sqrt\lambda` large, whatever the picture.
"""

from __future__ import annotations

from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.grids import Grid
from certes.diffusion.noise import NoiseSource
from certes.diffusion.solvers.state import State, steps_of
from certes.restoration.conjugate_gradients import conjugate_gradients
from certes.restoration.measurement import Measurement
from certes.restoration.operators.base import LinearOperator

# The authors' setting for noisy deblurring is 7, with sigma_y meant for [0, 1] and sigma_t for
# [-1, 1]: in units of [0, 1] alone that is a quarter of it.
LAMBDA = 7 / 4
ZETA = 0.3

# Of the proximal step. No network is involved, so it may as well be accurate.
_TOLERANCE = 1e-4
_ITERATIONS = 100


def sample_diffpir(
    measurement: Measurement,
    denoiser: Denoiser,
    levels: Grid,
    noise: NoiseSource,
    strength: float = LAMBDA,
    zeta: float = ZETA,
) -> Iterator[State]:
    """One DiffPIR answer for every row of the measurement; see the module for the step.

    Args:
        measurement: what is known, by a linear operator.
        denoiser: the prior.
        levels: noise levels, descending to 0, image units; one network call for each step.
        noise: one stream for every row.
        strength: ``lambda``, how far the denoiser is believed against the measurement.
        zeta: fresh share of the noise's variance.
    """
    operator, y = measurement.operator, measurement.y
    assert isinstance(operator, LinearOperator)
    variance = measurement.noise.to(y).reshape(len(y), -1).square()
    x = 0.5 + float(levels[0]) * noise.normal(operator.in_shape, y.dtype)
    for t, s in steps_of(levels):
        plain = denoiser(x, x.new_full((len(x),), float(t))).mean
        estimate = proximal(operator, y, plain, strength * variance / float(t) ** 2)
        fresh = noise.normal(operator.in_shape, y.dtype)
        kept = (1 - zeta) ** 0.5 * (x - estimate) / float(t)
        x = estimate + float(s) * (kept + zeta**0.5 * fresh)
        yield State(float(s), x, estimate)


def proximal(
    operator: LinearOperator,
    y: Float[Tensor, " b *out"],
    x: Float[Tensor, "b c h w"],
    rho: Float[Tensor, " b #m"],
) -> Float[Tensor, "b c h w"]:
    r"""The picture that is near ``x`` and explains ``y``: the minimum above.

    Args:
        operator: ``H``.
        y: the measurements.
        x: where to stay near.
        rho: how much that weighs; one number for each picture or each value of ``y``, where a
            smaller one trusts that value more.
    """
    residual = y - operator(x)

    def system(u: Float[Tensor, "b m"]) -> Float[Tensor, "b m"]:
        return operator(operator.adjoint(u.reshape(y.shape))).flatten(1) + rho * u

    solution = conjugate_gradients(system, residual.flatten(1), _TOLERANCE, _ITERATIONS)
    return x + operator.adjoint(solution.reshape(y.shape))
