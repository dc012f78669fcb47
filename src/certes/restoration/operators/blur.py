"""Deblurring: the picture was measured through a known, position-independent blur."""

from __future__ import annotations

import warnings
from typing import Any, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from certes.errors import CertesWarning, InputError
from certes.restoration.operators.axes import (
    Boundary,
    DenseAxis,
    singular_values_and_vectors,
    stencil_matrix,
)
from certes.restoration.operators.base import DecomposedOperator, as_tensor, checked_shape
from certes.restoration.operators.delegated import Delegated
from certes.restoration.operators.separable import Separable
from certes.restoration.operators.spectral import CircularConvolution, CosineConvolution

_SYMMETRIC = 1e-12  # largest difference between a kernel and its flips, relative to its peak
_UNIT_SUM = 1e-3  # how far a kernel may be from keeping brightness
_RANK_ONE = 1e-6  # second singular value of a separable kernel, relative to the first

Kernel = Float[Tensor, " taps"] | Float[Tensor, "a b"] | tuple[Tensor, Tensor]


class Blur(Delegated):
    r"""Convolution of every channel by one kernel, as :func:`scipy.ndimage.convolve` does it.

    .. math:: y_{ij} = \sum_{ab} k_{ab} x_{i + A - a, j + B - b}

    with the anchor (A, B) = (rows // 2, columns // 2) of the kernel: the middle of an odd kernel,
    the later of the two middle taps of an even one. All taps count and the kernel is used as it is,
    not normalised. No singular value is truncated.

    How it is diagonalised follows from the boundary: ``circular`` by the Fourier transform (any
    kernel), ``reflect`` by the cosine transform where the kernel is symmetric in both axes, and
    otherwise by one dense singular value decomposition per axis (kernels that are outer products).

    Args:
        shape: (C, H, W) of a picture.
        kernel: (taps,) for both axes, a pair (along the height, along the width), or a plane
            (a, b).
        boundary: what lies outside the picture: ``reflect`` (edge pixel repeated: c b a | a b c),
            ``zero``, or ``circular``.

    Raises:
        InputError: an unknown boundary, a kernel that is not finite and not zero throughout, or one
            that only the ``circular`` boundary can take.
    """

    name = "deblur"

    def __init__(
        self, shape: tuple[int, int, int], kernel: Kernel, boundary: Boundary = "reflect"
    ) -> None:
        if boundary not in get_args(Boundary):
            raise InputError(f"boundary is {boundary!r}; wanted 'reflect', 'zero' or 'circular'")
        self.kernel, self.boundary = kernel, boundary
        super().__init__(_diagonalised(checked_shape(shape), plane_of(kernel), boundary))

    def _parameters(self) -> dict[str, Any]:
        return {"kernel": numbers_of(self.kernel), "boundary": self.boundary}


def numbers_of(kernel: Kernel) -> Any:
    """A kernel in types that JSON knows."""
    if isinstance(kernel, Tensor):
        return cast(Any, kernel).tolist()
    rows, columns = kernel
    return {"rows": numbers_of(rows), "columns": numbers_of(columns)}


def kernel_of(numbers: Any) -> Kernel:
    """Undoes ``numbers_of``."""
    if isinstance(numbers, dict):
        parts = cast(dict[str, Any], numbers)
        return _taps(parts["rows"]), _taps(parts["columns"])
    return _taps(numbers)


def _taps(numbers: Any) -> Float[Tensor, "*taps"]:
    return torch.tensor(numbers, dtype=torch.float64)


def plane_of(kernel: Kernel) -> Float[Tensor, "a b"]:
    """Any accepted kernel as a float64 plane, or an ``InputError``.

    Warns:
        CertesWarning: for one that does not sum to one.
    """
    kernel = kernel if isinstance(kernel, tuple) else as_tensor(kernel)
    if isinstance(kernel, Tensor) and kernel.ndim == 2:
        plane = kernel.double()
    else:
        rows, columns = (kernel, kernel) if isinstance(kernel, Tensor) else kernel
        if rows.ndim != 1 or columns.ndim != 1:
            raise InputError(
                f"kernel has shapes {tuple(rows.shape)} and {tuple(columns.shape)}; wanted (taps,) "
                f"for each axis, or one plane (a, b)"
            )
        plane = torch.outer(rows.double(), columns.double())
    if not bool(plane.isfinite().all()) or not bool(plane.any()):
        raise InputError("kernel is empty, all zero or not finite; wanted finite weights")
    _warn_of_gain(float(plane.sum()))
    return plane.cpu()


def _warn_of_gain(gain: float) -> None:
    if abs(gain - 1) > _UNIT_SUM:
        warnings.warn(
            f"kernel sums to {gain:.3g}, not to 1: this blur changes brightness; divide the kernel "
            "by its sum if that is not meant",
            CertesWarning,
            stacklevel=4,
        )


def _diagonalised(
    shape: tuple[int, int, int], kernel: Float[Tensor, "a b"], boundary: Boundary
) -> DecomposedOperator:
    if boundary == "circular":
        return CircularConvolution(shape, kernel)
    if boundary == "reflect" and is_symmetric(kernel):
        return CosineConvolution(shape, kernel)
    rows, columns = _separated(kernel, boundary)
    return Separable(shape, _axis(rows, shape[1], boundary), _axis(columns, shape[2], boundary))


def is_symmetric(kernel: Float[Tensor, "a b"]) -> bool:
    """Whether a kernel is odd and equal to its two flips."""
    odd = all(size % 2 for size in kernel.shape)
    flips = torch.stack([kernel.flip(0), kernel.flip(1)])
    return odd and bool(((flips - kernel).abs() <= _SYMMETRIC * kernel.abs().max()).all())


def _separated(
    kernel: Float[Tensor, "a b"], boundary: Boundary
) -> tuple[Float[Tensor, " a"], Float[Tensor, " b"]]:
    """The two factors of an outer product."""
    u, s, vt = singular_values_and_vectors(kernel)
    if bool((s[1:] > _RANK_ONE * s[0]).any()):
        a, b = kernel.shape
        raise InputError(
            f"kernel ({a} x {b}) is not an outer product of two vectors, and boundary {boundary!r} "
            f"takes no other{' unless symmetric' if boundary == 'reflect' else ''}; "
            f"use boundary='circular'"
        )
    return u[:, 0] * s[0], vt[0]


def _axis(taps: Float[Tensor, " taps"], size: int, boundary: Boundary) -> DenseAxis:
    offsets = len(taps) // 2 - torch.arange(len(taps))
    sources = torch.arange(size)[:, None] + offsets
    return DenseAxis(stencil_matrix(taps.expand(size, -1), sources, size, boundary))
