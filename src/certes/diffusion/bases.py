r"""Orthonormal bases of pictures: where a process, a covariance or an operator becomes diagonal.

A basis is a pair of maps :math:`\bar{x} = V^T x` (``forward``) and :math:`x = V \bar{x}`
(``inverse``) with :math:`V V^T = I`: white noise stays white, and each map is the other's adjoint.
Coefficients are stored in an array of the picture's own shape.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, cast

import torch
from jaxtyping import Complex, Float
from torch import Tensor

_fft = cast(Any, torch.fft)  # torch publishes no types for its transforms
_AT_ONCE = 2**24  # values that are transformed at once; each takes some 30 bytes on the way
_TABLES_KEPT = 16  # picture sizes (times precisions and devices) whose tables stay in memory


class Basis(ABC):
    """An orthonormal change of coordinates on pictures."""

    @abstractmethod
    def forward(self, x: Float[Tensor, "*batch c h w"]) -> Float[Tensor, "*batch c h w"]:
        """The coefficients :math:`V^T x`, in an array of the picture's shape."""

    @abstractmethod
    def inverse(self, coefficients: Float[Tensor, "*batch c h w"]) -> Float[Tensor, "*batch c h w"]:
        """The picture with these coefficients, :math:`V` times them."""


class IdentityBasis(Basis):
    """Pixels."""

    def forward(self, x: Float[Tensor, "*batch c h w"]) -> Float[Tensor, "*batch c h w"]:
        """``x`` itself."""
        return x

    def inverse(self, coefficients: Float[Tensor, "*batch c h w"]) -> Float[Tensor, "*batch c h w"]:
        """``coefficients`` themselves."""
        return coefficients


class CosineBasis(Basis):
    r"""The orthonormal discrete cosine transform (DCT-II) over the last two axes, of any size.

    .. math:: \bar{x}_{kl} = a_k b_l \sum_{ij} x_{ij}
        \cos\frac{\pi k (2i + 1)}{2H} \cos\frac{\pi l (2j + 1)}{2W},

    with :math:`a_0 = \sqrt{1/H}`, :math:`a_k = \sqrt{2/H}`, and :math:`b` alike with :math:`W`.
    Every blur by a symmetric kernel with mirror boundaries (each edge pixel repeated) is diagonal
    in this basis.

    Each transform is one real FFT of the reordered picture, :math:`O(n \log n)`: Makhoul, "A fast
    cosine transform in one and two dimensions", IEEE Trans. ASSP 28 (1980). float32 or float64.
    """

    def forward(self, x: Float[Tensor, "*batch c h w"]) -> Float[Tensor, "*batch c h w"]:
        """DCT-II of every channel."""
        return _plane_by_plane(self._forward, x)

    def inverse(self, coefficients: Float[Tensor, "*batch c h w"]) -> Float[Tensor, "*batch c h w"]:
        """DCT-III of every channel: undoes ``forward``."""
        return _plane_by_plane(self._inverse, coefficients)

    def _forward(self, x: Float[Tensor, "*batch h w"]) -> Float[Tensor, "*batch h w"]:
        height, width = x.shape[-2:]
        tables = _cosine_tables(height, width, x.dtype, x.device)
        z: Tensor = _fft.rfft2(_even_then_odd(_even_then_odd(x.mT).mT))
        b = torch.addcmul(tables.forward * z, tables.forward_mirror, _negate_rows(z))
        return torch.cat([b.real, -b.imag[..., 1 : (width + 1) // 2].flip(-1)], dim=-1)

    def _inverse(self, coefficients: Float[Tensor, "*batch h w"]) -> Float[Tensor, "*batch h w"]:
        height, width = coefficients.shape[-2:]
        tables = _cosine_tables(height, width, coefficients.dtype, coefficients.device)
        real = coefficients[..., : width // 2 + 1]
        mirror = -coefficients[..., (width + 1) // 2 :].flip(-1)
        b = torch.complex(real, torch.cat([torch.zeros_like(real[..., :1]), mirror], dim=-1))
        z = torch.addcmul(tables.inverse * b, tables.inverse_mirror, _negate_rows(b))
        v: Tensor = _fft.irfft2(z, s=(height, width), norm="forward")
        return _interleave(_interleave(v.mT).mT)


def _plane_by_plane(transform: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A transform of every plane; one after another where all at once would take much memory."""
    if x.numel() <= _AT_ONCE or x.numel() == x.shape[-2] * x.shape[-1]:
        return transform(x)
    planes = x.reshape(-1, 1, *x.shape[-2:])
    return torch.cat([transform(plane) for plane in planes]).reshape(x.shape)


class SingularMaps(Protocol):
    """What a basis needs of a linear operator :math:`H = U S V^T`: its right singular vectors."""

    def V(self, coefficients: Float[Tensor, "b n"]) -> Float[Tensor, "b c h w"]:
        """The pictures with these coefficients."""
        ...

    def Vt(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        """The coefficients of these pictures."""
        ...


class SingularBasis(Basis):
    """The right singular vectors of a linear operator (the spectral space of DDRM).

    Args:
        operator: anything with ``V`` and ``Vt``. Coefficient ``i`` of its flat layout is entry
            ``i`` of the array here, read row by row: the first ones belong to singular values, in
            the operator's order, the rest to its null space.
    """

    def __init__(self, operator: SingularMaps) -> None:
        self.operator = operator

    def forward(self, x: Float[Tensor, "*batch c h w"]) -> Float[Tensor, "*batch c h w"]:
        """``V^T x``, folded into the picture's shape."""
        return self.operator.Vt(x.reshape(-1, *x.shape[-3:])).reshape(x.shape)

    def inverse(self, coefficients: Float[Tensor, "*batch c h w"]) -> Float[Tensor, "*batch c h w"]:
        """``V`` times the unfolded coefficients."""
        flat = coefficients.reshape(-1, math.prod(coefficients.shape[-3:]))
        return self.operator.V(flat).reshape(coefficients.shape)


@dataclass(frozen=True)
class _CosineTables:
    """Twiddle factors on the half plane of a real FFT of one picture size."""

    forward: Complex[Tensor, "h half"]
    forward_mirror: Complex[Tensor, "h half"]
    inverse: Complex[Tensor, "h half"]
    inverse_mirror: Complex[Tensor, "h half"]


@lru_cache(maxsize=_TABLES_KEPT)
def _cosine_tables(
    height: int, width: int, dtype: torch.dtype, device: torch.device
) -> _CosineTables:
    """Tables in the precision and on the device of the data, computed in float64."""
    # Tables made under inference_mode could not take part in a later backward pass.
    with torch.inference_mode(False), torch.no_grad():
        rows, columns = _twiddles(height)[:, None], _twiddles(width)[: width // 2 + 1]
        rows_scale, columns_scale = _scales(height)[:, None], _scales(width)[: width // 2 + 1]
        scale = rows_scale * columns_scale
        forward = scale * rows * columns / 2
        forward_mirror = scale * rows.conj() * columns / 2
        inverse = (rows * columns).conj() / (scale * height * width)
        inverse_mirror = -1j * inverse
        inverse_mirror[0] = 0.0  # the row of index H that row 0 mirrors does not exist
        complex_type = torch.complex128 if dtype == torch.float64 else torch.complex64
        planes = (forward, forward_mirror, inverse, inverse_mirror)
        return _CosineTables(*(p.to(device, complex_type) for p in planes))


def _twiddles(size: int) -> Complex[Tensor, " k"]:
    angle = -math.pi * torch.arange(size, dtype=torch.float64) / (2 * size)
    return torch.polar(torch.ones_like(angle), angle)


def _scales(size: int) -> Float[Tensor, " k"]:
    """What makes each cosine of a DCT-II a unit vector."""
    scales = torch.full((size,), math.sqrt(2 / size), dtype=torch.float64)
    scales[0] = math.sqrt(1 / size)
    return scales


def _even_then_odd(x: Float[Tensor, "*batch w"]) -> Float[Tensor, "*batch w"]:
    """Even pixels upwards, then odd ones downwards: a DCT of them is the real part of a DFT."""
    return torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], dim=-1)


def _interleave(x: Float[Tensor, "*batch w"]) -> Float[Tensor, "*batch w"]:
    """Undo ``_even_then_odd``."""
    even, odd = x.tensor_split([(x.shape[-1] + 1) // 2], dim=-1)
    out = torch.empty_like(x)
    out[..., ::2] = even
    out[..., 1::2] = odd.flip(-1)
    return out


def _negate_rows(z: Complex[Tensor, "*batch h w"]) -> Complex[Tensor, "*batch h w"]:
    """Row ``-k`` (modulo H) in place of row ``k``."""
    return torch.cat([z[..., :1, :], z[..., 1:, :].flip(-2)], dim=-2)
