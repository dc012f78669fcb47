"""Sums over neighbours by a Triton kernel that looks them up as it goes: CUDA only.

Every program has some points and some channels. For one offset after another it asks a table of the
lattice which point is there, if any, and adds what that point says; nothing dense is written, and
no list of pairs. Values may be of half precision, sums are of single precision.

Import this module where Triton is installed only; :func:`.neighbours.neighbours_of` does.
"""

# Triton's language has no types that a checker knows, and its kernels no annotations but its own.
# pyright: reportMissingParameterType=false, reportUnknownParameterType=false
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportInvalidTypeForm=false, reportUnknownArgumentType=false

from __future__ import annotations

from importlib import import_module
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from certes.function_space.coordinates import Points
from certes.function_space.physical_kernel import lattice_kernel, refinement, tap_weights
from certes.function_space.sums import Neighbours, Sums, Table, Tokens

triton: Any = import_module("triton")
tl: Any = import_module("triton.language")

Rows = Float[Tensor, "n c"]

_function = cast(Any, torch.autograd.Function)

_POINTS, _CHANNELS = 32, 64


@triton.jit
def _sum(
    table, at, shift, a, b, kernel, share,
    weighted, plain, points, channels, taps,
    P: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """The sum of ``a`` times the kernel, and that of ``b`` times the shares."""
    p = tl.program_id(0) * P + tl.arange(0, P)
    c = tl.program_id(1) * C + tl.arange(0, C)
    start = tl.load(at + p, mask=p < points, other=0)
    sum_a = tl.zeros((P, C), dtype=tl.float32)
    sum_b = tl.zeros((P, C), dtype=tl.float32)
    for tap in range(taps):
        found = tl.load(table + start + tl.load(shift + tap), mask=p < points, other=-1)
        known = (found >= 0)[:, None] & (c < channels)[None, :]
        place = found.to(tl.int64)[:, None] * channels + c[None, :]
        factor = tl.load(kernel + tap * channels + c, mask=c < channels, other=0.0)
        sum_a += tl.load(a + place, mask=known, other=0.0).to(tl.float32) * factor[None, :]
        sum_b += tl.load(b + place, mask=known, other=0.0).to(tl.float32) * tl.load(share + tap)
    inside = (p < points)[:, None] & (c < channels)[None, :]
    place = p.to(tl.int64)[:, None] * channels + c[None, :]
    tl.store(weighted + place, sum_a, mask=inside)
    tl.store(plain + place, sum_b, mask=inside)


@triton.jit
def _correlate(
    table, at, shift, values, gradient, partial,
    points, channels, taps, P: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """For each offset the sum, over a program's points, of neighbours' values times gradients."""
    block = tl.program_id(0)
    p = block * P + tl.arange(0, P)
    c = tl.program_id(1) * C + tl.arange(0, C)
    start = tl.load(at + p, mask=p < points, other=0)
    inside = (p < points)[:, None] & (c < channels)[None, :]
    own = p.to(tl.int64)[:, None] * channels + c[None, :]
    wanted = tl.load(gradient + own, mask=inside, other=0.0).to(tl.float32)
    for tap in range(taps):
        found = tl.load(table + start + tl.load(shift + tap), mask=p < points, other=-1)
        known = (found >= 0)[:, None] & (c < channels)[None, :]
        place = found.to(tl.int64)[:, None] * channels + c[None, :]
        there = tl.load(values + place, mask=known, other=0.0).to(tl.float32)
        row = (block.to(tl.int64) * taps + tap) * channels + c
        tl.store(partial + row, tl.sum(there * wanted, axis=0), mask=c < channels)


class LookedUp(Neighbours):
    """By a table of the lattice that says which point lies where.

    Args:
        points: pixels.
        reach: the farthest offset of the kernels.
    """

    def __init__(self, points: Points, reach: int) -> None:
        cells, lattice = cast(Tensor, points.cells), points.lattice
        device, (b, count) = cells.device, cells.shape
        fine = refinement(lattice.pitch)
        self.step, self.pitch = fine or 1, 1.0 if fine else lattice.pitch
        axis = tap_weights(reach, self.pitch).sum(dim=1).float().to(device)
        far = len(axis) // 2
        margin = far * self.step
        wide, high = lattice.width + 2 * margin, lattice.height + 2 * margin
        at = (cells // lattice.width + margin) * wide + cells % lattice.width + margin
        at = (at + torch.arange(b, device=device)[:, None] * (high * wide)).flatten()
        table = torch.full((b * high * wide,), -1, dtype=torch.int32, device=device)
        table[at] = torch.arange(b * count, dtype=torch.int32, device=device)
        taps = torch.arange(-far, far + 1, device=device) * self.step
        shift = (taps[:, None] * wide + taps).flatten()
        self.table, self.at, self.shift = table, at, shift.int()
        self.share = torch.outer(axis, axis).flatten()
        there = self.table[at[:, None] + shift] >= 0
        self.present = there.float().view(b, count, -1)
        self.count = self.present @ self.share[:, None]

    def sums(self, values: Tokens, table: Table) -> Sums:
        kernel = lattice_kernel(table.float(), self.pitch).flatten(1).T
        rows = values.flatten(0, 1).contiguous()
        weighted, plain = (x.view(values.shape) for x in _Sums.apply(rows, kernel, self))
        return Sums(weighted, plain, self.present @ kernel, self.count, float(self.share.sum()))

    def _blocks(self, points: int, channels: int) -> tuple[tuple[int, int], dict[str, int]]:
        width = min(_CHANNELS, max(16, triton.next_power_of_2(channels)))
        grid = triton.cdiv(points, _POINTS), triton.cdiv(channels, width)
        return grid, {"P": _POINTS, "C": width}

    def summed(self, a: Rows, b: Rows, kernel: Rows) -> tuple[Rows, Rows]:
        """Of ``a`` times the kernel, and of ``b``, single precision."""
        points, channels = a.shape
        weighted, plain = (torch.empty_like(a, dtype=torch.float32) for _ in range(2))
        grid, blocks = self._blocks(points, channels)
        _sum[grid](
            self.table, self.at, self.shift, a.contiguous(), b.contiguous(), kernel.contiguous(),
            self.share, weighted, plain, points, channels, len(self.shift), **blocks,
        )  # fmt: skip
        return weighted, plain

    def correlated(self, values: Rows, gradient: Rows) -> Rows:
        """The kernel's gradient: of every offset, the sum of values there times gradients here."""
        points, channels = values.shape
        grid, blocks = self._blocks(points, channels)
        partial = self.share.new_empty(grid[0], len(self.shift), channels)
        _correlate[grid](
            self.table, self.at, self.shift, values, gradient.contiguous(), partial,
            points, channels, len(self.shift), **blocks,
        )  # fmt: skip
        return partial.sum(dim=0)


class _Sums(_function):
    """Values and kernel to the weighted and the plain sums."""

    @staticmethod
    def forward(ctx: Any, values: Rows, kernel: Rows, on: LookedUp) -> tuple[Rows, Rows]:
        ctx.save_for_backward(values, kernel)
        ctx.on = on
        return on.summed(values, values, kernel)

    @staticmethod
    @cast(Any, torch.autograd.function.once_differentiable)
    def backward(
        ctx: Any, of_weighted: Rows, of_plain: Rows
    ) -> tuple[Rows | None, Rows | None, None]:
        values, kernel = ctx.saved_tensors
        on: LookedUp = ctx.on
        of_values = of_kernel = None
        if ctx.needs_input_grad[0]:
            # Who is my neighbour has me as a neighbour, at the opposite offset.
            parts = on.summed(of_weighted, of_plain, kernel.flip(0))
            of_values = (parts[0] + parts[1]).to(values.dtype)
        if ctx.needs_input_grad[1]:
            of_kernel = on.correlated(values, of_weighted)
        return of_values, of_kernel, None
