r"""From points to a fixed grid and back.

The grid's nodes lie a fixed physical distance apart, at the centres of its cells, whatever the
points: :math:`x_i = (i + 1/2) \Delta`. Towards the grid, a node's value is the mean of the points
around it with the weights of a quadratic B-spline; a node without any takes its value from coarser
and coarser means (push and pull, Gortler et al. 1996). Back, the grid is interpolated linearly.

A sum over pixels stands for an integral, and what it adds are the frequencies that the weights let
pass beyond the pixels' own: of an amplitude at a quarter of the nodes' frequency, linear weights
(with four pixels in each cell) let pass 1 %, quadratic ones .1 %.

Paper: Infinity-Diff, section 4.2, where points go to the grid by their three nearest neighbours.
The original reads the grid back in units of [0, 1] where [-1, 1] is meant, and rows for columns: of
every picture it sees one quarter, transposed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

Tokens = Float[Tensor, "b l c"]
Positions = Float[Tensor, "b l 2"]
Nodes = Float[Tensor, "b c h w"]

_NEGLIGIBLE = 1e-3


def grid_shape(extent: tuple[float, float], spacing: float, multiple: int) -> tuple[int, int]:
    """Nodes that cover a domain, their numbers multiples of what a U-Net can halve.

    Args:
        extent: sides of the domain, physical units.
        spacing: distance of the nodes.
        multiple: of both numbers.
    """
    rows, columns = (math.ceil(side / spacing - _NEGLIGIBLE) for side in extent)
    return multiple * -(-rows // multiple), multiple * -(-columns // multiple)


def to_grid(
    values: Tokens, positions: Positions, shape: tuple[int, int], spacing: float
) -> tuple[Nodes, Float[Tensor, "b 2 h w"]]:
    """Means around the nodes, and where the points lay on average.

    Args:
        values: at the points.
        positions: of the points, physical units.
        shape: nodes.
        spacing: their distance, physical units.

    Returns:
        The means, and the mean offset of the points from each node in spacings (zero where there
        were none): what a mean over few points leaves open.
    """
    (b, _, c), area = values.shape, shape[0] * shape[1]
    first = torch.arange(b, device=values.device)[:, None] * area
    # Sums of many points: in single precision whatever the network's.
    total = values.new_zeros(b * area, c + 3, dtype=torch.float32)
    for node, weight, offset in _around(positions, shape, spacing):
        told = torch.cat([values.float(), offset, torch.ones_like(weight)], dim=2) * weight
        total = total.index_add(0, (first + node).flatten(), told.flatten(0, 1))
    nodes = total.view(b, *shape, c + 3).permute(0, 3, 1, 2)
    means = _filled(nodes[:, :c], nodes[:, -1:])
    offsets = nodes[:, c:-1] / nodes[:, -1:].clamp(min=_NEGLIGIBLE)
    return means.to(values), offsets.to(values)


def from_grid(nodes: Nodes, positions: Positions, spacing: float) -> Tokens:
    """The grid's values at points, linear between nodes, constant beyond the outer ones.

    Args:
        nodes: values at the nodes.
        positions: of the points, physical units.
        spacing: distance of the nodes.
    """
    height, width = nodes.shape[-2:]
    sides = torch.tensor([height * spacing, width * spacing], device=positions.device)
    # What F.grid_sample wants: columns before rows, and the domain as [-1, 1]. Half precision
    # cannot tell the pixels of large pictures apart.
    unit = (2 * positions.float() / sides - 1).flip(-1)[:, None]
    read = F.grid_sample(nodes.float(), unit, padding_mode="border", align_corners=False)
    return read[:, :, 0].transpose(1, 2).to(nodes)


def _around(
    positions: Positions, shape: tuple[int, int], spacing: float
) -> Iterator[tuple[Int64[Tensor, "b l"], Float[Tensor, "b l 1"], Float[Tensor, "b l 2"]]]:
    """Each of the nine nodes around the points, its weight there, its offset in spacings."""
    place = positions.float() / spacing - 0.5
    nearest = place.round()
    limits = torch.tensor(shape, device=positions.device) - 1
    for step in itertools.product((-1, 0, 1), repeat=2):
        node = nearest + torch.tensor(step, device=positions.device)
        weight = _quadratic((place - node).abs()).prod(dim=-1, keepdim=True)
        # Beyond the outer nodes a point counts for the nearest.
        node = node.long().clamp(min=0).minimum(limits)
        yield node[..., 0] * shape[1] + node[..., 1], weight, place - node


def _quadratic(distance: Float[Tensor, " *n"]) -> Float[Tensor, " *n"]:
    """The quadratic B-spline, one for each axis, within 3/2 of its middle."""
    return torch.where(distance < 0.5, 0.75 - distance**2, (1.5 - distance) ** 2 / 2)


def _filled(total: Nodes, weight: Float[Tensor, "b 1 h w"]) -> Nodes:
    """Weighted means; where the weight is little, those of ever larger cells take its place."""
    height, width = total.shape[-2:]
    mean = total / weight.clamp(min=_NEGLIGIBLE)
    if max(height, width) < 2 or bool((weight > _NEGLIGIBLE).all()):
        return mean
    coarse = _filled(_coarser(total), _coarser(weight))
    above = F.interpolate(coarse, scale_factor=2.0, mode="nearest")[..., :height, :width]
    return torch.where(weight > _NEGLIGIBLE, mean, above)


def _coarser(nodes: Nodes) -> Nodes:
    """Sums over cells of 2 x 2."""
    even = (0, nodes.shape[-1] % 2, 0, nodes.shape[-2] % 2)
    return F.avg_pool2d(F.pad(nodes, even), 2, divisor_override=1)
