"""Sums over neighbours by lists of pairs of points."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
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
_AT_ONCE = 2**14


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
        find = _pairs_of_positions if points.cells is None else _pairs_of_pixels
        self.pairs = find(points, reach)

    def sums(self, values: Tokens, table: Table) -> Sums:
        b, _, c = values.shape
        kernel = table.flatten(1).T.contiguous()
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
class _Pairs:
    """Targets (ascending) and sources by their number in the batch, kernel offsets, shares.

    Every pair is there twice, the other time with source for target and the opposite offset: what
    is summed backward is a sum over the same pairs.
    """

    points: int
    taps: int
    target: Int64[Tensor, " n"]
    source: Int64[Tensor, " n"]
    tap: Int64[Tensor, " n"]
    weight: Float[Tensor, " n"]

    def parts(self) -> Iterator[tuple[slice, slice]]:
        """Some targets at a time, and their pairs."""
        count = len(self.target)
        step = self.points if self.target.is_cuda else max(1, _AT_ONCE * self.points // count)
        edges: list[int] = [*cast(Any, self.starts[::step]).tolist(), count]
        for k, (first, last) in enumerate(pairwise(edges)):
            yield slice(k * step, (k + 1) * step), slice(first, last)

    @cached_property
    def by_tap(self) -> list[tuple[Tensor, Tensor, Float[Tensor, " n"]]]:
        """Target, source and weight of the pairs of every offset."""
        order = self.tap.argsort(stable=True)
        counts: list[int] = cast(Any, torch.bincount(self.tap, minlength=self.taps)).tolist()
        columns = (self.target, self.source, self.weight)
        parts = (cast(Any, column.index_select(0, order)).split(counts) for column in columns)
        return list(zip(*parts, strict=True))

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
            of_kernel = torch.stack([_met(values, of_weighted, *some) for some in pairs.by_tap])
        return of_values, of_kernel, None


def _weighted(values: Rows, kernel: Rows, pairs: _Pairs) -> Rows:
    total = torch.empty_like(values)
    for targets, some in pairs.parts():
        known = kernel.index_select(0, pairs.tap[some]).mul_(pairs.weight[some, None])
        known = known.mul_(values.index_select(0, pairs.source[some]))
        # Pairs lie by their targets: sums of stretches, many times as fast as index_add.
        stretch = torch.arange(len(known), device=values.device)
        starts = pairs.starts[targets] - some.start
        total[targets] = F.embedding_bag(stretch, known, starts, mode="sum")
    return total


def _met(
    values: Rows, gradient: Rows, target: Tensor, source: Tensor, weight: Float[Tensor, " n"]
) -> Float[Tensor, " c"]:
    """Of some pairs, the sum of sources' values times targets' gradients."""
    met = values.index_select(0, source).mul_(gradient.index_select(0, target))
    return weight @ met


def _plain(values: Rows, pairs: _Pairs) -> Rows:
    weight = pairs.weight.to(values)
    return F.embedding_bag(
        pairs.source, values.contiguous(), pairs.starts, mode="sum", per_sample_weights=weight
    )


def _pairs_of_pixels(points: Points, reach: int) -> _Pairs:
    """Pixels that are neighbours, looked up in a table of the whole lattice."""
    cells, lattice = cast(Tensor, points.cells), points.lattice
    device, (b, count) = cells.device, cells.shape
    fine = refinement(lattice.pitch)
    step = fine or 1
    far = tap_weights(reach, lattice.pitch * step).shape[0] // 2
    margin = far * step
    wide, high = lattice.width + 2 * margin, lattice.height + 2 * margin
    at = (cells // lattice.width + margin) * wide + cells % lattice.width + margin
    at = (at + torch.arange(b, device=device)[:, None] * (high * wide)).flatten()
    table = torch.full((b * high * wide,), -1, dtype=torch.int32, device=device)
    table[at] = torch.arange(b * count, dtype=torch.int32, device=device)
    along = torch.arange(-far, far + 1, device=device) * step
    taps = torch.cartesian_prod(along, along)
    found = table[at[:, None] + taps[:, 0] * wide + taps[:, 1]]
    target, tap = (found >= 0).nonzero(as_tuple=True)
    source = found[target, tap].long()
    # What nonzero answers are columns of a matrix: slow to walk through, again and again.
    target, tap = target.contiguous(), tap.contiguous()
    if fine:
        ones = torch.ones_like(source, dtype=torch.float32)
        return _Pairs(b * count, len(taps), target.int(), source, tap.int(), ones)
    offset = taps[tap].double() * lattice.pitch
    return _between_offsets(b * count, target, source, offset, reach, lattice.pitch)


def _pairs_of_positions(points: Points, reach: int) -> _Pairs:
    """Positions that are neighbours, found by a tree."""
    b, count = points.positions.shape[:2]
    places = points.positions.detach().double()
    pairs = [_found(place, reach) + k * count for k, place in enumerate(places)]
    target, source = torch.cat(pairs).T
    flat = places.reshape(b * count, 2)
    offset = flat[source] - flat[target]
    return _between_offsets(b * count, target, source, offset, reach, spread=1.0)


def _found(place: Float[Tensor, "l 2"], reach: int) -> Int64[Tensor, "n 2"]:
    """Pairs of targets (ascending) and sources; every point is a neighbour of its own."""
    tree = cast(Any, spatial).cKDTree(place.cpu().numpy())
    near = tree.query_pairs(reach + 1, p=float("inf"), output_type="ndarray")
    pairs = torch.as_tensor(near, device=place.device).long()
    same = torch.arange(len(place), device=place.device)[:, None].expand(-1, 2)
    both = torch.cat([pairs, pairs.flip(1), same])
    return both[both[:, 0].argsort(stable=True)]


def _between_offsets(
    points: int, target: Tensor, source: Tensor, offset: Float[Tensor, "n 2"], reach: int,
    spread: float,
) -> _Pairs:  # fmt: skip
    """Every pair once for each of the kernel's offsets that lies within the spread of its own."""
    offsets = torch.arange(-reach, reach + 1, device=offset.device)
    along = (1 - (offset[..., None] - offsets).abs() / spread).clamp(min=0)
    # An offset that is a whole number but for rounding counts for that alone.
    along = torch.where(along < _ROUNDING, 0, along)
    weight = (along[:, 0, :, None] * along[:, 1, None, :]).flatten(1)
    pair, tap = weight.nonzero(as_tuple=True)
    tap = tap.contiguous()
    shares = weight[pair, tap].float()
    return _Pairs(points, weight.shape[1], target[pair], source[pair], tap, shares)
