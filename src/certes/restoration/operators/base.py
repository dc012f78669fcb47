r"""What a measurement is: any operator, a linear one, and one whose singular values are known.

.. math:: y = H x + \text{noise}

:class:`Operator` says ``H(x)`` and nothing else (JPEG); :class:`LinearOperator` adds the adjoint,
which is what conjugate gradients need; :class:`DecomposedOperator` knows

.. math:: H = U S V^T

with orthogonal, complete :math:`U` (m, m) and :math:`V` (n, n), never stored as matrices.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import pad

from certes.errors import InputError
from certes.restoration.conjugate_gradients import least_squares
from certes.restoration.operators.constants import Constant

_PRECISIONS = (torch.float32, torch.float64)


class Operator(ABC):
    """A map from pictures (C, H, W) to measurements, one picture of the batch at a time.

    It computes in the precision (float32 or float64) and on the device of its argument; numpy
    arrays are taken too. A concrete operator implements ``_apply``, and ``_parameters`` if it has
    any.

    Args:
        in_shape: (C, H, W) of a picture.
        out_shape: shape of a measurement.

    Raises:
        InputError: later, for an argument of another shape or type than announced.
    """

    name: ClassVar[str]
    """The task, as on the command line."""

    def __init__(self, in_shape: tuple[int, int, int], out_shape: tuple[int, ...]) -> None:
        self.in_shape = in_shape
        self.out_shape = out_shape

    def __call__(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b ..."]:
        """The noiseless measurement :math:`H x`."""
        return self._apply(self._checked("x", x, self.in_shape))

    def observed(self, y: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """``y`` with zeros wherever this operator measures nothing, whatever stood there."""
        return self._checked("y", y, self.out_shape)

    @property
    def n(self) -> int:
        """Number of values in a picture, C * H * W."""
        return math.prod(self.in_shape)

    @property
    def m(self) -> int:
        """Number of values in a measurement."""
        return math.prod(self.out_shape)

    def describe(self) -> dict[str, Any]:
        """What makes this operator the one it is, in types that JSON knows (for reports, cards)."""
        return {"name": self.name, "shape": list(self.in_shape), **self._parameters()}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.describe().items())
        return f"{type(self).__name__}({arguments})"

    @abstractmethod
    def _apply(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b ..."]: ...

    def _parameters(self) -> dict[str, Any]:
        """The arguments besides the shape, in types that JSON knows."""
        return {}

    def _checked(
        self, argument: str, value: Tensor | npt.NDArray[Any], shape: tuple[int, ...]
    ) -> Shaped[Tensor, "b ..."]:
        value = as_tensor(value)
        if value.dtype not in _PRECISIONS:
            raise InputError(
                f"{self.name}: {argument} is {value.dtype}; wanted float32 or float64 values in "
                f"image units ([0, 1]): convert it first"
            )
        if value.ndim != len(shape) + 1 or tuple(value.shape[1:]) != shape:
            wanted = ", ".join(str(size) for size in shape)
            raise InputError(
                f"{self.name}: {argument} has shape {tuple(value.shape)}; wanted a batch "
                f"(B, {wanted})"
            )
        return value


class LinearOperator(Operator):
    """A linear map known by itself and its adjoint: what has no cheap decomposition.

    A concrete operator implements ``_apply`` and ``_adjoint``.
    """

    def adjoint(self, y: Float[Tensor, "b ..."]) -> Float[Tensor, "b c h w"]:
        r""":math:`H^T y`, so that :math:`\langle H x, y \rangle = \langle x, H^T y \rangle`."""
        return self._adjoint(self._checked("y", y, self.out_shape))

    def pinv(self, y: Float[Tensor, "b ..."]) -> Float[Tensor, "b c h w"]:
        r"""The Moore-Penrose inverse :math:`H^+ y`: the smallest of all best fits to ``y``.

        By conjugate gradients, to the accuracy that the precision of ``y`` allows.
        """
        return least_squares(self._apply, self._adjoint, self.observed(y))

    @abstractmethod
    def _adjoint(self, y: Float[Tensor, "b ..."]) -> Float[Tensor, "b c h w"]: ...


class DecomposedOperator(LinearOperator):
    r"""A linear operator whose singular value decomposition is known, without a matrix.

    Layout of coefficients, with n the size of a picture, m that of a measurement and r = min(m, n):
    ``Vt(x)`` is (B, n); its first r entries belong to ``singular_values``, in that order (which is
    not sorted), and the remaining n - r span the rest of the null space. ``Ut(y)`` is (B, m), its
    first r entries likewise.

    A concrete operator implements ``_V``, ``_Vt``, ``_U`` and ``_Ut``; where a shorter way to the
    same answer exists it may override ``_apply`` and ``_adjoint``.

    Args:
        in_shape: (C, H, W) of a picture.
        out_shape: shape of a measurement.
        singular_values: (r,), float64, in the order of ``U`` and ``V``.

    Raises:
        InputError: singular values that are all zero.
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        out_shape: tuple[int, ...],
        singular_values: Float[Tensor, " r"],
    ) -> None:
        if not bool(singular_values.any()):
            raise InputError(
                "all singular values are zero: this operator measures nothing; wanted one of "
                "rank 1 at least"
            )
        super().__init__(in_shape, out_shape)
        self._singular_values = Constant(singular_values)

    def pinv(self, y: Float[Tensor, "b ..."]) -> Float[Tensor, "b c h w"]:
        r"""The Moore-Penrose inverse :math:`H^+ y`: the smallest of all best fits to ``y``.

        Singular values up to ``tolerance`` count as zero.
        """
        y = self._checked("y", y, self.out_shape)
        s = self._singular_values.like(y)
        inverse = torch.where(s > self.tolerance(y.dtype), 1 / s, 0.0)
        return self._V(padded(inverse * self._Ut(y)[:, : len(s)], self.n))

    def V(self, coefficients: Float[Tensor, "b n"]) -> Float[Tensor, "b c h w"]:
        """Pictures from their coefficients: :math:`V` is orthogonal and complete."""
        return self._V(self._checked("coefficients", coefficients, (self.n,)))

    def Vt(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        """Coefficients of pictures, the inverse of ``V``."""
        return self._Vt(self._checked("x", x, self.in_shape))

    def U(self, coefficients: Float[Tensor, "b m"]) -> Float[Tensor, "b ..."]:
        """Measurements from their coefficients: :math:`U` is orthogonal and complete."""
        return self._U(self._checked("coefficients", coefficients, (self.m,)))

    def Ut(self, y: Float[Tensor, "b ..."]) -> Float[Tensor, "b m"]:
        """Coefficients of measurements, the inverse of ``U``."""
        return self._Ut(self._checked("y", y, self.out_shape))

    def rows(self, coefficients: Float[Tensor, "b r"]) -> Float[Tensor, "b c h w"]:
        """Pictures from the coefficients that H can see: the first r columns of ``V``.

        An operator whose r is much smaller than n has a shorter way than through all of ``V``.
        """
        return self._V(padded(coefficients, self.n))

    def rows_t(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b r"]:
        """The coefficients that H can see: the adjoint of ``rows``."""
        return self._Vt(x)[:, : len(self.singular_values)]

    @property
    def singular_values(self) -> Float[Tensor, " r"]:
        """All r = min(m, n) singular values, float64, none truncated, in the order of U and V."""
        return self._singular_values.value

    @property
    def spectrum(self) -> Float[Tensor, " n"]:
        """``singular_values`` with a zero for each of the n - r directions that H cannot see."""
        return padded(self.singular_values, self.n)

    def tolerance(self, dtype: torch.dtype) -> float:
        """The singular value up to which data of this precision hold only rounding errors."""
        largest = float(self.singular_values.max())
        return max(self.in_shape) * torch.finfo(dtype).eps * largest

    @abstractmethod
    def _V(self, coefficients: Float[Tensor, "b n"]) -> Float[Tensor, "b c h w"]: ...

    @abstractmethod
    def _Vt(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]: ...

    @abstractmethod
    def _U(self, coefficients: Float[Tensor, "b m"]) -> Float[Tensor, "b ..."]: ...

    @abstractmethod
    def _Ut(self, y: Float[Tensor, "b ..."]) -> Float[Tensor, "b m"]: ...

    def _apply(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b ..."]:
        s = self._singular_values.like(x)
        return self._U(padded(s * self._Vt(x)[:, : len(s)], self.m))

    def _adjoint(self, y: Float[Tensor, "b ..."]) -> Float[Tensor, "b c h w"]:
        s = self._singular_values.like(y)
        return self._V(padded(s * self._Ut(y)[:, : len(s)], self.n))


def padded(values: Float[Tensor, "*batch r"], size: int) -> Float[Tensor, "*batch size"]:
    """``values`` followed by zeros up to ``size``."""
    missing = size - values.shape[-1]
    return pad(values, (0, missing)) if missing else values


def checked_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """``shape`` as three integers (C, H, W), or an ``InputError``."""
    if len(shape) != 3 or any(int(size) != size or size < 1 for size in shape):
        raise InputError(
            f"shape is {tuple(shape)}; wanted (channels, height, width), three positive integers"
        )
    channels, height, width = (int(size) for size in shape)
    return channels, height, width


def as_tensor(value: Tensor | npt.NDArray[Any]) -> Tensor:
    """A numpy array as a tensor; a tensor as it is."""
    return value if isinstance(value, Tensor) else torch.as_tensor(np.ascontiguousarray(value))
