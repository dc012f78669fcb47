r"""What convolutions on subsets of a lattice want to know of the neighbours of every point.

For values :math:`v` at some pixels, a kernel :math:`\kappa` and the offsets :math:`j` at which a
pixel is present:

.. math:: \sum \kappa_j v_j, \quad \sum v_j, \quad \sum \kappa_j, \quad \sum 1 .
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import Float, Int64
from torch import Tensor

Tokens = Float[Tensor, "b l c"]
Table = Float[Tensor, "c k k"]


@dataclass(frozen=True)
class Sums:
    """Over the neighbours of every point, the point itself among them.

    Args:
        weighted: of values times kernel.
        plain: of values.
        weights: of the kernel.
        count: of neighbours; fractions where offsets fall between pixels. No gradient.
        full: what the count would be if every pixel were there.
        kind: where many points have neighbours at the same offsets: for which kind of point, of
            those that ``weights`` and ``count`` are given for, each of them is an example.
    """

    weighted: Tokens
    plain: Tokens
    weights: Float[Tensor, "b k c"]
    count: Float[Tensor, "b k 1"]
    full: float
    kind: Int64[Tensor, " l"] | None = None

    def of_each(self, kinds: Float[Tensor, "b k c"]) -> Float[Tensor, "b l c"]:
        """What was said of every kind, for every point."""
        return kinds if self.kind is None else kinds.index_select(1, self.kind)


class Neighbours(ABC):
    """Which points of a batch are near which others."""

    @abstractmethod
    def sums(self, values: Tokens, table: Table) -> Sums:
        """The four sums.

        Args:
            values: at the points.
            table: the kernel of every channel at offsets of one unit.
        """
