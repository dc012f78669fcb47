r"""The linear-Gaussian conditional mean by conjugate gradients, the network untouched.

Given :math:`x_0 | x_t \sim N(\hat x_0, P)` and looks :math:`z_i = \bar x_i + \sqrt{r_i} e_i` at
some coefficients in a basis :math:`V`,

.. math:: E[x_0 | x_t, z] = \hat x_0 + P V_o (V_o^T P V_o + R)^{-1} (z - V_o^T \hat x_0).

What is used for :math:`P` decides everything; :mod:`certes.diffusion.residuals` says what we use.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from certes.diffusion.covariance import Covariance
from certes.restoration.operators import LinearOperator

# Errors of the solution are errors of one step's drift, which the next step's network call sees and
# mends; beyond this accuracy nothing was gained in coverage or PSNR.
TOLERANCE = 0.05
MAX_ITERATIONS = 6


def conditional_mean(
    mean: Float[Tensor, "b c h w"],
    covariance: Covariance,
    operator: LinearOperator,
    looks: Float[Tensor, "b n"],
    variances: Float[Tensor, "#b n"],
) -> Float[Tensor, "b c h w"]:
    """Move ``mean`` to where the looks pull it.

    Args:
        mean: ``E[x_0 | x_t]``.
        covariance: ``P = Cov[x_0 | x_t]``.
        operator: whose singular basis ``V`` the looks are in; no look is beyond what it can see.
        looks: ``z``; anything where there is no look.
        variances: ``r_i``, infinite where there is no look.
    """
    # Only the first r directions can hold a look, and operators have a short way to them.
    r = len(operator.singular_values)
    looks, variances = looks[:, :r], variances[:, :r]
    seen = torch.isfinite(variances)
    if not bool(seen.any()):
        return mean
    residual = torch.where(seen, looks - operator.rows_t(mean), 0.0)
    # Scaling by (r + p)^-1/2 with p the mean variance bounds the system whether r is tiny or huge.
    typical = covariance.diagonal().mean(dim=(1, 2, 3)).to(mean)[:, None]
    scale = torch.where(seen, (variances + typical).rsqrt(), 0.0)
    ridge = torch.where(seen, variances / (variances + typical), 1.0)

    def system(u: Float[Tensor, "b r"]) -> Float[Tensor, "b r"]:
        return ridge * u + scale * operator.rows_t(covariance.apply(operator.rows(scale * u)))

    solution = conjugate_gradients(system, scale * residual)
    return mean + covariance.apply(operator.rows(scale * solution))


def conjugate_gradients(
    system: Callable[[Tensor], Tensor], right: Float[Tensor, "b n"]
) -> Float[Tensor, "b n"]:
    """Solve ``system(u) = right`` for symmetric positive definite systems, one for each row.

    A row that has converged is left alone, so that no answer depends on its batch mates.
    """
    u = torch.zeros_like(right)
    residual = direction = right
    energy = residual.square().sum(dim=1, keepdim=True)
    goal = TOLERANCE**2 * energy
    for _ in range(MAX_ITERATIONS):
        active: Bool[Tensor, "b 1"] = energy > goal
        if not bool(active.any()):
            break
        image = system(direction)
        step = _ratio(energy, (direction * image).sum(dim=1, keepdim=True), active)
        u = torch.addcmul(u, step, direction)
        residual = torch.addcmul(residual, step, image, value=-1)
        new_energy = residual.square().sum(dim=1, keepdim=True)
        direction = torch.addcmul(residual, _ratio(new_energy, energy, active), direction)
        energy = torch.where(active, new_energy, energy)
    return u


def _ratio(above: Tensor, below: Tensor, active: Tensor) -> Tensor:
    return torch.where(active, above / torch.where(active, below, 1.0), 0.0)
