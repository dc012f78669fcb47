r"""Convolution of a function that is known at some coordinates only.

With :math:`n` of :math:`N` neighbours present, their mean :math:`\bar v` and
:math:`|\kappa| = \sum_j \kappa_j`,

.. math:: (K v)(c) = |\kappa|\, \bar v + \frac{N}{n} \sum_{present} \kappa_j\, (v_j - \bar v) .

If all are present that is the convolution itself. If some are missing it estimates it, as does the
original's :math:`(N/n) \sum \kappa_j v_j` (a mean over the neighbours), but :math:`\bar v` is a
control variate: a constant is convolved exactly, and of a smooth function two fifths or less of
the error remains (``benchmarks/function_cost.py``); of what varies among the neighbours a share of
:math:`1/n` is lost. Averages over few points are what sets networks that saw few points apart from
those that see all.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from certes.errors import InputError
from certes.function_space.neighbours import Neighbours, Scattered

Tokens = Float[Tensor, "b l c"]


def convolved(values: Tokens, neighbours: Neighbours, table: Float[Tensor, "c k k"]) -> Tokens:
    """Depthwise convolution; see the module.

    Args:
        values: at some points.
        neighbours: these points'.
        table: a kernel for each channel, at offsets of one unit.
    """
    sums = neighbours.sums(values, table)
    share = sums.full / sums.count
    # Factors that have no gradient first: little is kept for the way back.
    rest = torch.addcmul(table.sum((1, 2)), share, sums.weights, value=-1) / sums.count
    return torch.addcmul(sums.of_each(share) * sums.weighted, sums.of_each(rest), sums.plain)


class DepthwiseConvolution(nn.Module):
    """A kernel for each channel (the paper's choice).

    Args:
        channels: of the tokens.
        reach: the farthest offset, units; the kernel is 2 reach + 1 a side.
    """

    def __init__(self, channels: int, reach: int) -> None:
        super().__init__()
        side = 2 * reach + 1
        self.table = nn.Parameter(torch.randn(channels, side, side) / side)

    def forward(self, values: Tokens, neighbours: Neighbours) -> Tokens:
        with torch.autocast(values.device.type, enabled=False):
            return convolved(values.float(), neighbours, self.table.float())


class FullConvolution(nn.Module):
    """A kernel for each pair of channels, normalised by the number of neighbours: to compare with.

    Args:
        channels: of the tokens.
        reach: the farthest offset, units.
    """

    def __init__(self, channels: int, reach: int) -> None:
        super().__init__()
        side = 2 * reach + 1
        self.weight = nn.Parameter(
            torch.randn(channels, channels, side, side) / side / channels**0.5
        )

    def forward(self, values: Tokens, neighbours: Neighbours) -> Tokens:
        if not isinstance(neighbours, Scattered) or neighbours.pitch != 1.0:
            raise InputError("convolution: 'full' knows lattices of one pixel a unit only")
        with torch.autocast(values.device.type, enabled=False):
            dense = neighbours.dense(values.float())
            summed = neighbours.tokens(F.conv2d(dense, self.weight, padding="same"), len(values))
            return summed * (self.weight.shape[-1] ** 2 / neighbours.count)
