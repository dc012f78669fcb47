"""Precision and recall of generated pictures: is each like a real one, is each real one reached."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from certes.errors import InputError

NEIGHBOURS = 3
_BLOCK = 1024
# Squared distances are differences of squared norms; this much of those is rounding, not distance.
_ROUNDING = 1e-12


def precision_recall(
    real: Float[Tensor, "n d"],
    generated: Float[Tensor, "m d"],
    neighbours: int = NEIGHBOURS,
    block: int = _BLOCK,
) -> tuple[float, float]:
    """Share of generated vectors among the real ones, and of real ones among the generated.

    A vector is among the others if it is no farther from one of them than that one's own k-th
    nearest neighbour in its set. Both shares depend on the sizes of the sets.

    Args:
        real: features of real pictures.
        generated: features of generated pictures.
        neighbours: k; 3 as published.
        block: how many vectors are compared with all others at a time; it does not change results.

    Source: Kynkaanniemi et al., Improved precision and recall metric for assessing generative
    models (NeurIPS 2019). Raises: InputError for sets of k vectors or fewer.
    """
    fewest = min(len(real), len(generated))
    if fewest <= neighbours:
        raise InputError(
            f"pictures: {fewest} given, {neighbours} nearest neighbours need {neighbours + 1}"
        )
    # Distances do not change, but their rounding errors shrink, when the common mean is taken off.
    centre = real.double().mean(dim=0)
    a, b = real.double() - centre, generated.double() - centre
    slack = _ROUNDING * float(torch.cat([a, b]).square().sum(dim=1).max())
    reach_a, reach_b = (_radii(x, neighbours, block) + slack for x in (a, b))
    precise: list[Bool[Tensor, " block"]] = []
    reached = torch.zeros(len(a), dtype=torch.bool)
    for part, reach in zip(torch.split(b, block), torch.split(reach_b, block), strict=True):
        distances = _squared_distances(part, a)
        precise.append((distances <= reach_a).any(dim=1))
        reached |= (distances <= reach[:, None]).any(dim=0)
    return float(torch.cat(precise).double().mean()), float(reached.double().mean())


def _radii(x: Float[Tensor, "n d"], neighbours: int, block: int) -> Float[Tensor, " n"]:
    """Squared distance of each vector to its k-th nearest neighbour, itself not counted."""
    nearest = (
        _squared_distances(part, x).kthvalue(neighbours + 1, dim=1).values
        for part in torch.split(x, block)
    )
    return torch.cat(list(nearest))


def _squared_distances(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    norms = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1)
    return (norms - 2 * x @ y.T).clamp(min=0)
