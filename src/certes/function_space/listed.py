"""Sums over neighbours by lists of pairs of points."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from scipy import spatial  # pyright: ignore[reportMissingTypeStubs]
from torch import Tensor

from certes.function_space.coordinates import Points
from certes.function_space.physical_kernel import refinement, tap_weights
from certes.function_space.sums import Neighbours, Sums, Table, Tokens

Rows = Float[Tensor, "n c"]

_function = cast(Any, torch.autograd.Function)

_ROUNDING = 1e-7
# Pairs looked at together: what they need stays in a processor's cache.
_AT_ONCE = 2**13


class Listed(Neighbours):
    """By lists of pairs.

    Offsets between those of the kernel count for the four around them, by their nearness: a
    kernel's weight so becomes that of all points around its offset. On a lattice that is the linear
    interpolation of :mod:`.physical_kernel`; positions anywhere are seen one unit around.

    Args:
        points: pixels, or positions anywhere.
        reach: the farthest offset of the kernels.
    """

    def __init__(self, points: Points, reach: int) -> None:
        self.taps = (2 * reach + 1) ** 2
        pitch = None if points.cells is None else points.lattice.pitch
        near = _near_positions(points, reach) if pitch is None else _near_pixels(points, reach)
        if pitch is not None and refinement(pitch):
            self.pairs = _at_offsets(near, reach)
        else:
            self.pairs = _between_offsets(near, reach, pitch or 1.0)

    def sums(self, values: Tokens, table: Table) -> Sums:
        b, _, c = values.shape
        kernel = table.flatten(1).T
        weighted, plain = _Sums.apply(values.reshape(-1, c), kernel, self.pairs)
        present = self._present.view(b, -1, self.taps)
        count = present.sum(dim=2, keepdim=True)
        shape = values.shape
        return Sums(
            weighted.view(shape), plain.view(shape), present @ kernel, count, float(self.taps)
        )

    @cached_property
    def _present(self) -> Float[Tensor, "n taps"]:
        """How many neighbours each point has at each offset."""
        pairs = self.pairs
        place = pairs.target * self.taps + pairs.tap
        counts = pairs.weight.new_zeros(pairs.points * self.taps)
        return counts.index_add_(0, place, pairs.weight).view(-1, self.taps)


@dataclass(frozen=True)
class _Near:
    """Pairs of points of a batch, by target, and their offsets in units: source minus target."""

    points: int
    target: Int64[Tensor, " n"]
    source: Int64[Tensor, " n"]
    offset: Float[Tensor, "n 2"]


@dataclass(frozen=True)
class _Pairs:
    """Targets (ascending) and sources by their number in the batch, kernel offsets, shares.

    Every pair is there twice, the other time with source for target and the opposite offset: what
    is summed backward is a sum over the same pairs.
    """

    points: int
    target: Int64[Tensor, " n"]
    source: Int64[Tensor, " n"]
    tap: Int64[Tensor, " n"]
    weight: Float[Tensor, " n"]

    def parts(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Float[Tensor, "n 1"]]]:
        """Target, source, tap and weight of some pairs at a time."""
        count = len(self.target)
        step = count if self.target.is_cuda else _AT_ONCE
        for i in range(0, count, step):
            part = slice(i, i + step)
            yield self.target[part], self.source[part], self.tap[part], self.weight[part, None]

    @cached_property
    def starts(self) -> Int64[Tensor, " points"]:
        """Where each target's pairs begin."""
        counts = torch.bincount(self.target, minlength=self.points)
        return counts.cumsum(0) - counts


class _Sums(_function):
    """The weighted and the plain sums of values in rows; keeps nothing of every pair."""

    @staticmethod
    def forward(ctx: Any, values: Rows, kernel: Rows, pairs: _Pairs) -> tuple[Rows, Rows]:
        ctx.save_for_backward(values, kernel)
        ctx.pairs = pairs
        return _weighted(values, kernel, pairs), _plain(values, pairs)

    @staticmethod
    @cast(Any, torch.autograd.function.once_differentiable)
    def backward(
        ctx: Any, of_weighted: Rows, of_plain: Rows
    ) -> tuple[Rows | None, Rows | None, None]:
        values, kernel = ctx.saved_tensors
        pairs: _Pairs = ctx.pairs
        of_values = of_kernel = None
        if ctx.needs_input_grad[0]:
            of_values = _weighted(of_weighted, kernel.flip(0), pairs) + _plain(of_plain, pairs)
        if ctx.needs_input_grad[1]:
            of_kernel = torch.zeros_like(kernel)
            for target, source, tap, weight in pairs.parts():
                product = values.index_select(0, source).mul_(of_weighted.index_select(0, target))
                of_kernel.index_add_(0, tap, product.mul_(weight))
        return of_values, of_kernel, None


def _weighted(values: Rows, kernel: Rows, pairs: _Pairs) -> Rows:
    total = torch.zeros_like(values)
    for target, source, tap, weight in pairs.parts():
        known = kernel.index_select(0, tap).mul_(weight)
        total.index_add_(0, target, known.mul_(values.index_select(0, source)))
    return total


def _plain(values: Rows, pairs: _Pairs) -> Rows:
    weight = pairs.weight.to(values)
    return F.embedding_bag(
        pairs.source, values.contiguous(), pairs.starts, mode="sum", per_sample_weights=weight
    )


def _near_pixels(points: Points, reach: int) -> _Near:
    """Pixels that are neighbours, looked up in a table of the whole lattice."""
    cells, lattice = cast(Tensor, points.cells), points.lattice
    device, (b, count) = cells.device, cells.shape
    step = refinement(lattice.pitch) or 1
    far = tap_weights(reach, lattice.pitch * step).shape[0] // 2
    margin = far * step
    wide, high = lattice.width + 2 * margin, lattice.height + 2 * margin
    at = (cells // lattice.width + margin) * wide + cells % lattice.width + margin
    at = (at + torch.arange(b, device=device)[:, None] * (high * wide)).flatten()
    table = torch.full((b * high * wide,), -1, device=device)
    table[at] = torch.arange(b * count, device=device)
    taps = torch.arange(-far, far + 1, device=device) * step
    taps = torch.stack(torch.meshgrid(taps, taps, indexing="ij"), dim=-1).view(-1, 2)
    found = table[at[:, None] + taps[:, 0] * wide + taps[:, 1]]
    target, tap = (found >= 0).nonzero(as_tuple=True)
    return _Near(b * count, target, found[target, tap], taps[tap].double() * lattice.pitch)


def _near_positions(points: Points, reach: int) -> _Near:
    """Positions that are neighbours, found by a tree."""
    b, count = points.positions.shape[:2]
    places = points.positions.detach().double()
    pairs = [_found(place, reach) + k * count for k, place in enumerate(places)]
    target, source = torch.cat(pairs).T
    flat = places.reshape(b * count, 2)
    return _Near(b * count, target, source, flat[source] - flat[target])


def _found(place: Float[Tensor, "l 2"], reach: int) -> Int64[Tensor, "n 2"]:
    """Pairs of targets (ascending) and sources; every point is a neighbour of its own."""
    tree = cast(Any, spatial).cKDTree(place.cpu().numpy())
    near = tree.query_pairs(reach + 1, p=float("inf"), output_type="ndarray")
    pairs = torch.as_tensor(near, device=place.device).long()
    same = torch.arange(len(place), device=place.device)[:, None].expand(-1, 2)
    both = torch.cat([pairs, pairs.flip(1), same])
    return both[both[:, 0].argsort(stable=True)]


def _at_offsets(near: _Near, reach: int) -> _Pairs:
    """Pairs whose offsets are the kernel's own."""
    tap = _tap(near.offset.round().long(), reach)
    weight = torch.ones_like(tap, dtype=torch.float32)
    return _Pairs(near.points, near.target, near.source, tap, weight)


def _between_offsets(near: _Near, reach: int, spread: float) -> _Pairs:
    """Every pair once for each of the kernel's offsets that lies within the spread of its own."""
    offsets = torch.arange(-reach, reach + 1, device=near.offset.device)
    along = (1 - (near.offset[..., None] - offsets).abs() / spread).clamp(min=0)
    # An offset that is a whole number but for rounding counts for that alone.
    along = torch.where(along < _ROUNDING, 0, along)
    weight = (along[:, 0, :, None] * along[:, 1, None, :]).flatten(1)
    pair, tap = weight.nonzero(as_tuple=True)
    return _Pairs(near.points, near.target[pair], near.source[pair], tap, weight[pair, tap].float())


def _tap(offset: Int64[Tensor, "n 2"], reach: int) -> Int64[Tensor, " n"]:
    return (offset[:, 0] + reach) * (2 * reach + 1) + offset[:, 1] + reach
