r"""The linear-Gaussian conditional mean by conjugate gradients, the network untouched.

Given :math:`x_0 | x_t \sim N(\hat x_0, P)` and looks :math:`z_i = \bar x_i + \sqrt{r_i} e_i` at
some coefficients in a basis :math:`V`,

.. math:: E[x_0 | x_t, z] = \hat x_0 + P V_o (V_o^T P V_o + R)^{-1} (z - V_o^T \hat x_0).

What is used for :math:`P` decides everything; :mod:`certes.diffusion.residuals` says what we use.
The looks may be singular coefficients, or the measurement itself where :math:`V_o^T = H`.
"""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.covariance import Covariance
from certes.restoration.conjugate_gradients import conjugate_gradients

# Errors of the solution are errors of one step's drift, which the next step's network call sees and
# mends; beyond this accuracy nothing was gained in coverage or PSNR.
TOLERANCE = 0.05
MAX_ITERATIONS = 6


class View(Protocol):
    """What is looked at: the map :math:`V_o^T` and its adjoint."""

    def rows_t(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b r"]:
        """What the looks would see of these pictures without noise."""
        ...

    def rows(self, coefficients: Float[Tensor, "b r"]) -> Float[Tensor, "b c h w"]:
        """The adjoint."""
        ...


def conditional_mean(
    mean: Float[Tensor, "b c h w"],
    covariance: Covariance,
    view: View,
    looks: Float[Tensor, "b n"],
    variances: Float[Tensor, "#b n"],
    max_iterations: int | None = None,
) -> Float[Tensor, "b c h w"]:
    """Move ``mean`` to where the looks pull it.

    Args:
        mean: ``E[x_0 | x_t]``.
        covariance: ``P = Cov[x_0 | x_t]``.
        view: what the looks are of, such as an operator's singular coefficients; values beyond the
            r that it sees are ignored.
        looks: ``z``; anything where there is no look.
        variances: ``r_i``, infinite where there is no look.
        max_iterations: of the solver; by default ``MAX_ITERATIONS``.
    """
    if not bool(torch.isfinite(variances).any()):
        return mean
    expected = view.rows_t(mean)
    r = expected.shape[1]
    looks, variances = looks[:, :r], variances[:, :r]
    seen = torch.isfinite(variances)
    residual = torch.where(seen, looks - expected, 0.0)
    # Scaling by (r + p)^-1/2 with p the mean variance bounds the system whether r is tiny or huge.
    typical = covariance.diagonal().mean(dim=(1, 2, 3)).to(mean)[:, None]
    scale = torch.where(seen, (variances + typical).rsqrt(), 0.0)
    ridge = torch.where(seen, variances / (variances + typical), 1.0)

    def system(u: Float[Tensor, "b r"]) -> Float[Tensor, "b r"]:
        return ridge * u + scale * view.rows_t(covariance.apply(view.rows(scale * u)))

    limit = MAX_ITERATIONS if max_iterations is None else max_iterations
    solution = conjugate_gradients(system, scale * residual, TOLERANCE, limit)
    return mean + covariance.apply(view.rows(scale * solution))
