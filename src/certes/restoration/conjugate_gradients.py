"""Conjugate gradients (Hestenes and Stiefel 1952), one system for each row of a batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def conjugate_gradients(
    system: Callable[[Tensor], Tensor],
    right: Float[Tensor, "b n"],
    tolerance: float,
    max_iterations: int,
) -> Float[Tensor, "b n"]:
    """Solve ``system(u) = right`` for symmetric positive semi-definite systems, from zero.

    A row that has converged is left alone, so that no answer depends on its batch mates.

    Args:
        system: the map, each row for itself.
        right: what it shall give.
        tolerance: the residual's norm at which a row is done, over that of its right side.
        max_iterations: applications of the system.
    """
    u = torch.zeros_like(right)
    residual = direction = right
    energy = residual.square().sum(dim=1, keepdim=True)
    goal = tolerance**2 * energy
    for _ in range(max_iterations):
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


def least_squares(
    apply: Callable[[Tensor], Tensor],
    adjoint: Callable[[Tensor], Tensor],
    y: Float[Tensor, "b ..."],
) -> Float[Tensor, "b c h w"]:
    """The smallest of all pictures whose ``apply`` is nearest to ``y``: the normal equations.

    Args:
        apply: a linear map on batches.
        adjoint: its adjoint.
        y: what to fit.
    """
    right = adjoint(y)

    def normal(x: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        return adjoint(apply(x.reshape(right.shape))).flatten(1)

    accuracy = 10 * torch.finfo(y.dtype).eps
    return conjugate_gradients(normal, right.flatten(1), accuracy, 500).reshape(right.shape)


def _ratio(above: Tensor, below: Tensor, active: Tensor) -> Tensor:
    return torch.where(active, above / torch.where(active, below, 1.0), 0.0)
