"""T10: points to the grid and back."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from certes.function_space.coordinates import Lattice, all_points, subset
from certes.function_space.interpolation import from_grid, grid_shape, to_grid

SPACING = 2.0


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def node_positions(shape: tuple[int, int]) -> Tensor:
    return Lattice(*shape, SPACING).centres(torch.arange(shape[0] * shape[1]))


def ramp(positions: Tensor, sides: tuple[float, float]) -> Tensor:
    """Two linear functions: the relative row and the relative column."""
    return positions / torch.tensor(sides)


def test_grid_shape() -> None:
    assert grid_shape((64, 64), 2.0, 4) == (32, 32)
    assert grid_shape((64 / 3 * 3, 20), 2.0, 4) == (32, 12)
    assert grid_shape((0.5, 9), 2.0, 1) == (1, 5)


def inside(positions: Tensor, sides: tuple[float, float], margin: float) -> Tensor:
    limits = torch.tensor(sides) - margin
    return ((positions > margin) & (positions < limits)).all(-1)


@pytest.mark.parametrize("pitch", [1.0, 0.5, 1 / 3, 0.25])
@pytest.mark.parametrize("sides", [(16, 16), (16, 28)])
def test_t10_ramps_come_back(sides: tuple[int, int], pitch: float) -> None:
    """Through the grid and back, linear functions are what they were (borders are mirrors)."""
    lattice = Lattice(round(sides[0] / pitch), round(sides[1] / pitch), pitch)
    points = all_points(lattice, 1)
    values = ramp(points.positions, sides)
    shape = grid_shape(lattice.extent, SPACING, 1)
    nodes, offsets = to_grid(values, points.positions, shape, SPACING)
    back = from_grid(nodes, points.positions, SPACING)
    inner = inside(points.positions, sides, 2 * SPACING)
    assert float((back - values)[inner].abs().max()) < 1e-6
    assert float(offsets[..., 2:-2, 2:-2].abs().max()) < 1e-5


def test_t10_grid_is_read_where_the_points_are() -> None:
    """At any point between the outer nodes, not only at pixels."""
    sides = (10.0, 18.0)
    shape = grid_shape(sides, SPACING, 1)
    nodes = ramp(node_positions(shape), sides).T.view(1, 2, *shape)
    positions = torch.rand(1, 500, 2, generator=seeded()) * torch.tensor(sides)
    inner = inside(positions, sides, SPACING / 2)
    wanted = ramp(positions, sides)
    assert float((from_grid(nodes, positions, SPACING) - wanted)[inner].abs().max()) < 1e-6


def test_defect_transposed_quarter_plane() -> None:
    """The original reads the grid with (row, column) in [0, 1]."""
    points, sides = all_points(Lattice(16, 16), 1), (16.0, 16.0)
    nodes = ramp(node_positions((8, 8)), sides).T.view(1, 2, 8, 8)
    unit = points.positions / 16
    original = F.grid_sample(nodes, unit[:, None], align_corners=False)[:, :, 0].transpose(1, 2)
    inner = inside(points.positions, sides, SPACING / 2)
    wanted = ramp(points.positions, sides)
    assert float((from_grid(nodes, points.positions, SPACING) - wanted)[inner].abs().max()) < 1e-6
    assert float((original - wanted)[inner].abs().max()) > 0.3
    # One quarter of the nodes, and rows for columns.
    read = (unit - 0.0) / 2 + 0.5
    seen = inside(read * 16, sides, SPACING)
    assert torch.allclose(original[seen], read.flip(-1)[seen], atol=1e-6)


def test_means_of_constants_and_places() -> None:
    points = subset(Lattice(18, 30), 3, 0.1, seeded())
    values = torch.full((3, points.positions.shape[1], 2), 4.0)
    nodes, offsets = to_grid(values, points.positions, (9, 15), SPACING)
    assert torch.allclose(nodes, torch.full_like(nodes, 4.0), atol=1e-5)
    assert offsets.shape == (3, 2, 9, 15)
    # A point lies where the grid says: at the node, and its offset from there.
    lone = torch.tensor([[[5.3, 7.2]]])
    _, offsets = to_grid(torch.ones(1, 1, 1), lone, (9, 15), SPACING)
    where = (offsets[0, :, 2, 3] + torch.tensor([2.5, 3.5])) * SPACING
    assert torch.allclose(where, lone[0, 0], atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (8, 8), (33, 64), (5, 12)])
def test_one_point_fills_the_grid(shape: tuple[int, int]) -> None:
    """However many nodes have nothing near them."""
    positions = torch.tensor([[[0.4, 0.7]]])
    nodes, offsets = to_grid(torch.full((1, 1, 1), 3.0), positions, shape, SPACING)
    assert torch.allclose(nodes, torch.full_like(nodes, 3.0), atol=1e-5)
    assert bool(offsets.isfinite().all())


def test_order_of_the_points_does_not_matter() -> None:
    points = subset(Lattice(16, 28), 2, 0.3, seeded())
    values = torch.randn(2, points.positions.shape[1], 3, generator=seeded(1))
    order = torch.randperm(values.shape[1], generator=seeded(2))
    a = to_grid(values, points.positions, (8, 14), SPACING)
    b = to_grid(values[:, order], points.positions[:, order], (8, 14), SPACING)
    assert all(torch.allclose(x, y, atol=1e-5) for x, y in zip(a, b, strict=True))


def test_functions_do_not_see_each_other() -> None:
    points = subset(Lattice(16, 28), 2, 0.3, seeded())
    values = torch.randn(2, points.positions.shape[1], 3, generator=seeded(1))
    both = to_grid(values, points.positions, (8, 14), SPACING)
    alone = to_grid(values[1:], points.positions[1:], (8, 14), SPACING)
    assert all(torch.allclose(x[1:], y, atol=1e-6) for x, y in zip(both, alone, strict=True))


def rough_reading(nodes: Tensor, positions: Tensor) -> Tensor:
    """Positions in the precision of the values."""
    sides = torch.tensor(nodes.shape[-2:]) * SPACING
    unit = (2 * positions / sides - 1).flip(-1)[:, None].to(nodes)
    return F.grid_sample(nodes.float(), unit.float(), align_corners=False)[:, :, 0].transpose(1, 2)


def test_half_precision_keeps_positions_and_counts() -> None:
    """Pixels of a large picture are told apart, and many points to a node are counted."""
    lattice = Lattice(1024, 4, 1 / 8)
    points = all_points(lattice, 1)
    shape = grid_shape(lattice.extent, SPACING, 1)
    nodes = torch.zeros(1, 1, *shape, dtype=torch.bfloat16)
    nodes[:, :, 1::2] = 1
    wanted = from_grid(nodes.float(), points.positions, SPACING)
    got = from_grid(nodes, points.positions, SPACING)
    assert got.dtype == torch.bfloat16
    assert float((got.float() - wanted).abs().max()) < 0.01
    assert float((rough_reading(nodes, points.positions) - wanted).abs().max()) > 0.05
    ones = torch.ones(1, len(lattice), 1, dtype=torch.bfloat16)
    means, _ = to_grid(ones, points.positions, shape, SPACING)
    assert means.dtype == torch.bfloat16
    assert torch.equal(means, torch.ones_like(means))
