"""Deblurring where the blur changes over the picture: lenses, fields of view, atmospheres."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from certes.errors import InputError
from certes.restoration.operators.base import LinearOperator, checked_shape
from certes.restoration.operators.constants import Constant, Placed
from certes.restoration.operators.valid_convolution import ValidConvolution


class VaryingBlur(LinearOperator):
    r"""Convolution of every channel by kernels that blend into each other.

    .. math:: y = \sum_k h_k * (w_k x), \qquad \sum_k w_k = 1

    (Nagy and O'Leary, "Restoring images degraded by spatially variant blur", SIAM J. Sci. Comput.
    19, 1998, with the weights before the convolution: every pixel spreads as the kernel says that
    is interpolated where it stands). Each edge pixel is repeated outwards (reflect), the anchor of
    a kernel is that of :class:`Blur`, and one kernel alone is a :class:`Blur`.

    Args:
        shape: (C, H, W) of a picture.
        kernels: (rows, columns, a, b): a kernel for the middle of each of rows x columns equal
            parts of the picture; used as they are, not normalised.
        weights: (rows, columns, H, W), how much of each kernel holds at each pixel; by default
            bilinear between the middles, and that of the nearest middle beyond the outermost.

    Raises:
        InputError: arrays of other shapes, not finite, or zero throughout.
    """

    name = "varying-blur"

    def __init__(
        self,
        shape: tuple[int, int, int],
        kernels: Float[Tensor, "rows columns a b"],
        weights: Float[Tensor, "rows columns h w"] | None = None,
    ) -> None:
        _, height, width = shape = checked_shape(shape)
        kernels = _checked("kernels", kernels)
        self.grid = (kernels.shape[0], kernels.shape[1])
        self.kernels = kernels
        if weights is None:
            weights = bilinear_weights(*self.grid, height, width)
        weights = _checked("weights", weights)
        wanted = (*self.grid, height, width)
        if tuple(weights.shape) != wanted:
            raise InputError(
                f"weights have shape {tuple(weights.shape)}; wanted {wanted}, one for each kernel "
                f"at each pixel"
            )
        self._digest = _digest(kernels, weights)
        rows, columns = _mirrored(height, kernels.shape[2]), _mirrored(width, kernels.shape[3])
        self._sources = (Placed(rows), Placed(columns))
        spread = weights[:, :, rows][..., columns]
        pairs = zip(kernels.flatten(0, 1), spread.flatten(0, 1), strict=True)
        self._pieces = [_Piece(kernel, w) for kernel, w in pairs if bool((w != 0).any())]
        super().__init__(shape, shape)

    def _apply(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        for dim, source in zip((-2, -1), self._sources, strict=True):
            x = x.index_select(dim, source.beside(x))
        y = x.new_zeros(*x.shape[:2], *self.in_shape[1:])
        for piece in self._pieces:
            y[piece.behind] += piece.apply(x[piece.before])
        return y

    def _adjoint(self, y: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        sides = [source.beside(y) for source in self._sources]
        x = y.new_zeros(*y.shape[:2], *(len(side) for side in sides))
        for piece in self._pieces:
            x[piece.before] += piece.adjoint(y[piece.behind])
        for dim, side in zip((-2, -1), sides, strict=True):
            shape = list(x.shape)
            shape[dim] = self.in_shape[dim]
            x = x.new_zeros(shape).index_add(dim, side, x)
        return x

    def _parameters(self) -> dict[str, Any]:
        return {"kernels": list(self.kernels.shape), "digest": self._digest}


def bilinear_weights(
    rows: int, columns: int, height: int, width: int
) -> Float[Tensor, "rows columns h w"]:
    """How much of each kernel holds at each pixel, hat by hat; they add up to 1 everywhere."""
    down, across = _hats(rows, height), _hats(columns, width)
    return down[:, None, :, None] * across[None, :, None, :]


def _hats(count: int, size: int) -> Float[Tensor, "count size"]:
    place = (torch.arange(size, dtype=torch.float64) + 0.5) * count / size - 0.5
    distance = place.clamp(0, count - 1) - torch.arange(count)[:, None]
    return (1 - distance.abs()).clamp(min=0)


class _Piece:
    """One kernel and the part of the picture where it holds.

    Args:
        kernel: (a, b).
        weights: of the kernel, at the pixels of the padded picture.
    """

    def __init__(self, kernel: Float[Tensor, "a b"], weights: Float[Tensor, "h w"]) -> None:
        reach = [taps - 1 for taps in kernel.shape]
        lines = (weights.any(1), weights.any(0))
        spans = [_reached(line, lost) for line, lost in zip(lines, reach, strict=True)]
        sources = [slice(s.start, s.stop + lost) for s, lost in zip(spans, reach, strict=True)]
        self.behind = (..., *spans)
        """Pixels of the blurred picture that it reaches."""
        self.before = (..., *sources)
        """Pixels of the padded picture that they see."""
        part = weights[self.before]
        self._weights = Constant(part)
        self._convolution = ValidConvolution(kernel, *part.shape)

    def apply(self, x: Float[Tensor, "*batch h w"]) -> Float[Tensor, "*batch h2 w2"]:
        """From ``before`` to ``behind``."""
        return self._convolution.apply(self._weights.like(x) * x)

    def adjoint(self, y: Float[Tensor, "*batch h2 w2"]) -> Float[Tensor, "*batch h w"]:
        """From ``behind`` to ``before``."""
        return self._weights.like(y) * self._convolution.adjoint(y)


def _reached(line: Bool[Tensor, " size"], lost: int) -> slice:
    """The span of a blurred axis that the marked places of the padded one reach."""
    marked = line.nonzero()
    first, last = int(marked[0]), int(marked[-1])
    return slice(max(0, first - lost), min(len(line) - lost, last + 1))


def _mirrored(size: int, taps: int) -> Int[Tensor, " padded"]:
    """Where the pixels of a padded axis come from: c b a | a b c d | d c b."""
    period = (torch.arange(size + taps - 1) - (taps - 1 - taps // 2)) % (2 * size)
    return torch.where(period < size, period, 2 * size - 1 - period)


def _checked(argument: str, values: Tensor) -> Float[Tensor, "rows columns a b"]:
    if values.ndim != 4 or 0 in values.shape:
        raise InputError(
            f"{argument} have shape {tuple(values.shape)}; wanted (rows, columns, height, width), "
            f"a grid of planes"
        )
    values = values.detach().to("cpu", torch.float64)
    if not bool(values.isfinite().all()) or not bool(values.any()):
        raise InputError(f"{argument} are all zero or not finite; wanted finite numbers")
    return values


def _digest(*arrays: Tensor) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(array.contiguous().numpy().tobytes())
    return digest.hexdigest()
