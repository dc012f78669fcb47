"""Sums over the neighbours that are there, the faster way.

Two ways, equal but for rounding: ``Scattered`` values on the whole lattice, where dense
convolutions are fast, and ``Listed`` pairs of neighbours, which cost nothing where nothing is and
know positions between pixels as well. On CUDA a third, where Triton is installed: a kernel that
looks neighbours up as it goes (:mod:`.triton_convolution`).
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

from certes.function_space.coordinates import Points
from certes.function_space.listed import Listed
from certes.function_space.scattered import Scattered
from certes.function_space.sums import Neighbours, Sums

__all__ = ["SPARSE", "Listed", "Neighbours", "Scattered", "Sums", "neighbours_of"]

SPARSE = 0.3
"""Share of the pixels below which pairs are listed: forward both ways then take as long, and
backward dense convolutions twice as long (``benchmarks/function_cost.py``)."""

SPARSE_CUDA = 0.25
"""Share of the pixels below which Triton's kernel looks them up: an estimate from the bytes that
either way moves, to be replaced by what ``benchmarks/gpu/function_convolution.py`` measures."""


def neighbours_of(points: Points, reach: int) -> Neighbours:
    """The faster way for these points.

    Args:
        points: where functions are known.
        reach: the farthest offset of the kernels.
    """
    if points.cells is None:
        return Listed(points, reach)
    if points.whole:
        return Scattered(points, reach)
    if points.cells.is_cuda and points.density < SPARSE_CUDA and _has_triton():
        from certes.function_space.triton_convolution import LookedUp

        return LookedUp(points, reach)
    return Listed(points, reach) if points.density < SPARSE else Scattered(points, reach)


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None
