"""Sums over neighbours by dense convolutions on the whole lattice."""

from __future__ import annotations

from functools import cached_property
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from certes.function_space.coordinates import Points
from certes.function_space.physical_kernel import lattice_kernel, refinement, tap_weights
from certes.function_space.sums import Neighbours, Sums, Table, Tokens

Dense = Float[Tensor, "n c h w"]
Kernel = Float[Tensor, "c taps taps"]
Kinds = tuple[Float[Tensor, "kinds taps"], Int64[Tensor, " side"]]

_function = cast(Any, torch.autograd.Function)
_convolution_backward = cast(Any, torch.ops.aten.convolution_backward)


class Scattered(Neighbours):
    """By dense convolutions.

    Where a unit is r pixels, the lattice is r x r interleaved lattices of one pixel a unit, which
    become members of the batch: kernels stay small and dense whatever the resolution.

    Args:
        points: pixels.
        reach: the farthest offset of the kernels.
    """

    def __init__(self, points: Points, reach: int) -> None:
        self.points, self.reach = points, reach
        fine = refinement(points.lattice.pitch)
        self.fine = fine or 1
        self.pitch = 1.0 if fine else points.lattice.pitch
        height, width = points.lattice.shape
        self.height, self.width = -(-height // self.fine), -(-width // self.fine)
        self.trivial = points.whole and self.fine == 1

    @cached_property
    def index(self) -> Int64[Tensor, " n"]:
        """Where each point lies in the interleaved lattices of the batch."""
        cells = cast(Tensor, self.points.cells)
        area = self.height * self.width
        each = torch.arange(len(cells), device=cells.device)[:, None] * (self.fine**2 * area)
        if self.fine == 1:
            return (each + cells).flatten()
        rows, columns = cells // self.points.lattice.width, cells % self.points.lattice.width
        phase = (rows % self.fine) * self.fine + columns % self.fine
        inner = (rows // self.fine) * self.width + columns // self.fine
        return (each + phase * area + inner).flatten()

    def dense(self, values: Tokens) -> Dense:
        """Values on the lattices, zero where none is known, channels last in memory."""
        b, _, c = values.shape
        if self.trivial:
            return values.reshape(b, self.height, self.width, c).permute(0, 3, 1, 2)
        lattices = b * self.fine**2
        flat = values.new_zeros(lattices * self.height * self.width, c)
        flat = flat.index_copy_(0, self.index, values.reshape(-1, c))
        return flat.view(lattices, self.height, self.width, c).permute(0, 3, 1, 2)

    def tokens(self, dense: Dense, count: int) -> Tokens:
        """Values of the lattices at the points of ``count`` functions."""
        flat = dense.permute(0, 2, 3, 1).reshape(-1, dense.shape[1])
        if not self.trivial:
            flat = flat.index_select(0, self.index)
        return flat.view(count, -1, dense.shape[1])

    @cached_property
    def axis(self) -> Float[Tensor, " taps"]:
        """What every pixel along one axis counts for, all offsets together."""
        weights = tap_weights(self.reach, self.pitch).sum(dim=1)
        return weights.float().to(self.points.positions.device)

    @cached_property
    def full(self) -> float:
        """How many there are far from borders, if all are there."""
        return float(self.axis.sum() ** 2)

    @cached_property
    def present(self) -> Float[Tensor, "b l taps"]:
        """Whether there is a neighbour at each offset (in pixels of the interleaved lattices)."""
        far, positions = len(self.axis) // 2, self.points.positions
        ones = torch.ones(*positions.shape[:2], 1, device=positions.device)
        mask = F.pad(self.dense(ones), (far,) * 4).flatten()
        wide, area = self.width + 2 * far, self.height * self.width
        lattice, inner = self.index // area, self.index % area
        start = lattice * ((self.height + 2 * far) * wide)
        start = start + (inner // self.width) * wide + inner % self.width
        taps = torch.arange(2 * far + 1, device=positions.device)
        taps = (taps[:, None] * wide + taps).flatten()
        return mask[start[:, None] + taps].view(*positions.shape[:2], -1)

    @cached_property
    def count(self) -> Float[Tensor, "b l 1"]:
        """How many offsets have a neighbour."""
        return self.present @ torch.outer(self.axis, self.axis).reshape(-1, 1)

    def sums(self, values: Tokens, table: Table) -> Sums:
        kernel = lattice_kernel(table, self.pitch)
        weighted, plain = _Sums.apply(values, kernel, self)
        if not self.points.whole:
            weights = self.present @ kernel.flatten(1).T
            return Sums(weighted, plain, weights, self.count, self.full)
        (rows, row), (columns, column) = self._kinds
        weights = torch.einsum("ri,cij,sj->rsc", rows, kernel, columns).flatten(0, 1)
        count = torch.outer(rows @ self.axis, columns @ self.axis).view(1, -1, 1)
        kind = (row[:, None] * len(columns) + column).flatten()
        return Sums(weighted, plain, weights[None], count, self.full, kind)

    @cached_property
    def _kinds(self) -> tuple[Kinds, Kinds]:
        """Of rows and of columns of a whole lattice, where only borders lack neighbours."""
        return _kinds(self.points.lattice.height, self), _kinds(self.points.lattice.width, self)


def _kinds(side: int, on: Scattered) -> Kinds:
    """At which offsets a neighbour is there, for each kind; and the kind of each row."""
    device = on.axis.device
    far = len(on.axis) // 2
    offsets = torch.arange(-far, far + 1, device=device) * on.fine
    place = torch.arange(side, device=device)[:, None] + offsets
    there = ((place >= 0) & (place < side)).to(on.axis)
    return cast(Any, there).unique(dim=0, return_inverse=True)


class _Sums(_function):
    """The weighted and the plain sums; keeps nothing dense for the way back.

    Dense lattices are as large at any density: kept by every layer, they would cost what compact
    tokens save.
    """

    @staticmethod
    def forward(ctx: Any, values: Tokens, kernel: Kernel, on: Scattered) -> tuple[Tokens, Tokens]:
        ctx.save_for_backward(values, kernel)
        ctx.on = on
        dense, count = on.dense(values), len(values)
        return on.tokens(_convolved(dense, kernel), count), on.tokens(
            _summed(dense, on.axis), count
        )

    @staticmethod
    @cast(Any, torch.autograd.function.once_differentiable)
    def backward(
        ctx: Any, of_weighted: Tokens, of_plain: Tokens
    ) -> tuple[Tokens | None, Kernel | None, None]:
        values, kernel = ctx.saved_tensors
        on: Scattered = ctx.on
        weighted = on.dense(of_weighted)
        of_values = of_kernel = None
        if ctx.needs_input_grad[0]:
            both = _convolved(weighted, kernel.flip(1, 2))
            both = both.add_(_summed(on.dense(of_plain), on.axis))
            of_values = on.tokens(both, len(values))
        if ctx.needs_input_grad[1]:
            of_kernel = _kernel_gradient(on.dense(values), weighted, kernel)
        return of_values, of_kernel, None


def _convolved(dense: Dense, kernel: Kernel) -> Dense:
    """Depthwise; correlation and convolution are one here, for kernels are learned."""
    return F.conv2d(dense, kernel[:, None], padding=kernel.shape[-1] // 2, groups=len(kernel))


def _summed(dense: Dense, axis: Float[Tensor, " taps"]) -> Dense:
    """Neighbours' values, one axis after the other."""
    c, far = dense.shape[1], len(axis) // 2
    rows, columns = axis[:, None].expand(c, 1, -1, 1), axis.expand(c, 1, 1, -1)
    once = F.conv2d(dense, rows, padding=(far, 0), groups=c)
    return F.conv2d(once, columns, padding=(0, far), groups=c)


def _kernel_gradient(dense: Dense, gradient: Dense, kernel: Kernel) -> Kernel:
    far = kernel.shape[-1] // 2
    asked = [False, True, False]
    _, of_kernel, _ = _convolution_backward(
        gradient, dense, kernel[:, None], None, [1, 1], [far, far], [1, 1], False, [0, 0],
        len(kernel), asked,
    )  # fmt: skip
    return of_kernel[:, 0]
