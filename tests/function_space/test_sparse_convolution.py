"""T9: an operator gives the same function whatever the lattice; averages over what is there."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from certes.errors import InputError
from certes.function_space.coordinates import Lattice, Points, all_points, subset
from certes.function_space.neighbours import Neighbours, Scattered, Sums, neighbours_of
from certes.function_space.sparse_convolution import (
    DepthwiseConvolution,
    FullConvolution,
    convolved,
)

SIDE, REACH, HIGHEST = 32, 3, 12


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def kernel(channels: int = 1, seed: int = 1) -> Tensor:
    return torch.randn(channels, 2 * REACH + 1, 2 * REACH + 1, generator=seeded(seed))


class Field:
    """A function of few cosines, known everywhere."""

    def __init__(self, highest: int = HIGHEST) -> None:
        self.amplitudes = torch.randn(highest, highest, generator=seeded(2), dtype=torch.float64)

    def __call__(self, positions: Tensor) -> Tensor:
        k = torch.arange(len(self.amplitudes), dtype=torch.float64) * math.pi / SIDE
        rows, columns = (positions[..., i, None].double() * k for i in (0, 1))
        return torch.einsum("...k,kl,...l->...", rows.cos(), self.amplitudes, columns.cos())[
            ..., None
        ]


class Exact(Neighbours):
    """The sums of a field, read at every offset that lies in the domain."""

    def __init__(self, field: Field, points: Points) -> None:
        steps = torch.arange(-REACH, REACH + 1)
        steps = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1).view(-1, 2)
        place = points.positions[:, :, None].double() + steps
        self.known = ((place > 0) & (place < SIDE)).all(-1).double()
        self.read = field(place)[..., 0] * self.known

    def sums(self, values: Tensor, table: Tensor) -> Sums:
        weights = table.double().flatten()
        return Sums(
            (self.read @ weights)[..., None],
            self.read.sum(2, keepdim=True),
            (self.known @ weights)[..., None],
            self.known.sum(2, keepdim=True),
            float(len(weights)),
        )


def error(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def lattice_of(pitch: float) -> Lattice:
    return Lattice(round(SIDE / pitch), round(SIDE / pitch), pitch)


@pytest.mark.parametrize("fine", [1, 2, 3, 4, 5])
def test_t9_the_operator_does_not_know_the_lattice(fine: int) -> None:
    points, field, table = all_points(lattice_of(1 / fine), 1), Field(), kernel()
    got = convolved(field(points.positions).float(), neighbours_of(points, REACH), table)
    wanted = convolved(torch.empty(0), Exact(field, points), table.double())
    assert error(got, wanted) < 1e-5


def test_t9_other_pitches_are_off_by_second_order() -> None:
    field, table = Field(6), kernel()

    def off(pitch: float) -> float:
        points = all_points(lattice_of(pitch), 1)
        got = convolved(field(points.positions).float(), Scattered(points, REACH), table)
        wanted = convolved(torch.empty(0), Exact(field, points), table.double())
        lattice = points.lattice.shape
        # Far from borders, where a lattice may have one neighbour more or less.
        edge = math.ceil((REACH + 1) / pitch)
        inner = slice(edge, lattice[0] - edge)
        a, b = (x.view(lattice)[inner, inner] for x in (got, wanted))
        return error(a, b)

    coarse, fine = off(2 / 5), off(2 / 9)
    assert fine < 0.01
    assert 1.5 < math.log(coarse / fine) / math.log(9 / 5) < 2.5


def inner(points: Points, values: Tensor, table: Tensor, pad: int) -> Tensor:
    """A plain convolution, where nothing is missing, of values on a lattice of pitch 1/2."""
    dense = F.conv2d(points.picture(values), table[:, None])
    cut = 2 * REACH - pad
    return dense[..., cut : dense.shape[-1] - cut, cut : dense.shape[-1] - cut] if cut else dense


def test_defect_unscaled_kernels() -> None:
    """What does no more than convolve the fine lattice with the same or a resized kernel."""
    points, field, table = all_points(lattice_of(1 / 2), 1), Field(), kernel()
    wanted = convolved(torch.empty(0), Exact(field, points), table.double())
    wanted = points.picture(wanted)[..., 2 * REACH : -2 * REACH, 2 * REACH : -2 * REACH]
    values = field(points.positions).float()
    ours = points.picture(convolved(values, neighbours_of(points, REACH), table))
    assert error(ours[..., 2 * REACH : -2 * REACH, 2 * REACH : -2 * REACH], wanted) < 0.01
    # The dense variant of the original: the same 7 x 7 weights over half the length.
    assert error(inner(points, values, table, REACH), wanted) > 0.5
    # Its others: the weights resized as if they were a picture.
    resized = F.interpolate(table[None], (4 * REACH + 1,) * 2, mode="bilinear")[0]
    resized = resized * table.sum() / resized.sum()
    assert error(inner(points, values, resized, 2 * REACH), wanted) > 0.01


def test_all_neighbours_are_a_convolution() -> None:
    points, table = all_points(Lattice(11, 17), 2), kernel(4)
    values = torch.randn(2, 187, 4, generator=seeded())
    got = points.picture(convolved(values, neighbours_of(points, REACH), table))
    wanted = F.conv2d(points.picture(values), table[:, None], groups=4)
    assert torch.allclose(got[..., 3:-3, 3:-3], wanted, atol=1e-4)


@pytest.mark.parametrize("share", [1.0, 0.25, 0.03])
@pytest.mark.parametrize("lattice", [Lattice(16, 23), Lattice(16, 23, 1.5)])
def test_constants_are_convolved_exactly(lattice: Lattice, share: float) -> None:
    points, table = subset(lattice, 2, share, seeded()), kernel(2)
    values = torch.tensor([2.0, -1.0]).expand(2, points.positions.shape[1], -1)
    got = convolved(values, neighbours_of(points, REACH), table)
    assert torch.allclose(got, values * table.sum((1, 2)), rtol=1e-4, atol=1e-4)


def test_right_on_average_as_neighbours_come_and_go() -> None:
    """Over many subsets, the mean answer is that of the whole, but for a share of 1 / n."""
    points, table, draws = all_points(Lattice(9, 9), 1), kernel(), 4000
    values = Field(4)(points.positions).float()
    g = seeded(5)
    middle = 4 * 9 + 4
    # The middle is always there; the others one in two.
    order = torch.rand(draws, 81, generator=g)
    order[:, middle] = -1
    cells = order.argsort(1)[:, :41]
    some = Points(points.lattice, points.lattice.centres(cells), cells)
    answers = convolved(some.values(values.view(1, 1, 9, 9).expand(draws, -1, -1, -1)),
                        Scattered(some, REACH), table)[:, 0, 0]  # fmt: skip
    wanted = convolved(values, Scattered(points, REACH), table)[0, middle, 0]
    assert abs(float(answers.mean() - wanted)) < 0.15 * float(answers.std())


def mean_over_neighbours(values: Tensor, neighbours: Neighbours, table: Tensor) -> Tensor:
    """The paper's: the kernel's weighted sum, times N / n."""
    sums = neighbours.sums(values, table)
    return sums.weighted * sums.full / sums.of_each(sums.count)


def test_control_variate_of_smooth_functions() -> None:
    """With a kernel that averages, less is left of the error than the paper's mean leaves."""
    whole, field = all_points(Lattice(SIDE, SIDE), 1), Field(4)
    table = kernel().abs()
    full = convolved(field(whole.positions).float(), neighbours_of(whole, REACH), table)
    points = subset(whole.lattice, 8, 0.25, seeded())
    values = field(points.positions).float()
    wanted = points.values(whole.picture(full).expand(8, -1, -1, -1))
    neighbours = neighbours_of(points, REACH)
    ours, theirs = (
        error(way(values, neighbours, table), wanted) for way in (convolved, mean_over_neighbours)
    )
    assert ours < 0.75 * theirs


def test_modules() -> None:
    points = subset(Lattice(12, 10), 2, 0.5, seeded())
    neighbours = neighbours_of(points, 2)
    values = torch.randn(2, 60, 4, generator=seeded())
    for module in (DepthwiseConvolution(4, 2), FullConvolution(4, 2)):
        assert module(values, neighbours).shape == (2, 60, 4)
        with torch.autocast("cpu", torch.bfloat16):
            assert module(values.bfloat16(), neighbours).dtype == torch.float32


def test_full_convolution_is_the_mean_over_neighbours() -> None:
    points = subset(Lattice(12, 10), 2, 0.5, seeded())
    neighbours = Scattered(points, 2)
    values = torch.randn(2, 60, 2, generator=seeded())
    full = FullConvolution(2, 2)
    with torch.no_grad():
        full.weight[0, 1] = full.weight[1, 0] = 0
    table = torch.stack([full.weight[0, 0], full.weight[1, 1]])
    wanted = mean_over_neighbours(values, neighbours, table)
    assert torch.allclose(full(values, neighbours), wanted, atol=1e-5)
    coarse = subset(Lattice(12, 10, 2.0), 2, 0.5, seeded())
    with pytest.raises(InputError, match="one pixel a unit"):
        full(values, Scattered(coarse, 2))
