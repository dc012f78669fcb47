import pytest
import torch
from torch import Tensor

from certes.function_space.coordinates import (
    Lattice,
    Points,
    all_points,
    points_at,
    scattered_points,
    subset,
)
from certes.function_space.neighbours import (
    SPARSE,
    Listed,
    Neighbours,
    Scattered,
    Sums,
    neighbours_of,
)

REACH, CHANNELS = 2, 3


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some(points: Points, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Values and a kernel."""
    g = seeded(seed)
    values = torch.randn(*points.positions.shape[:2], CHANNELS, generator=g)
    table = torch.randn(CHANNELS, 2 * REACH + 1, 2 * REACH + 1, generator=g)
    return values.requires_grad_(), table.requires_grad_()


def brute_force(points: Points, values: Tensor, table: Tensor) -> tuple[Tensor, ...]:
    """The four sums, pair by pair, from the definition: interpolation between offsets."""
    pitch = points.lattice.pitch if points.cells is not None else 1.0
    whole = abs(1 / pitch - round(1 / pitch)) < 1e-6
    spread = 1e-3 if whole and points.cells is not None else max(pitch, 1e-3)
    place = points.positions.double()
    offset = place[:, None] - place[:, :, None]  # b, target, source, axis
    steps = torch.arange(-REACH, REACH + 1)
    along = (1 - (offset[..., None] - steps).abs() / spread).clamp(min=0)
    along = torch.where(along > 0.9, 1, along) if spread == 1e-3 else along
    share = torch.einsum("btsi,btsj->btsij", along[..., 0, :], along[..., 1, :])
    v, k = values.double(), table.double()
    return (
        torch.einsum("btsij,cij,bsc->btc", share, k, v),
        torch.einsum("btsij,bsc->btc", share, v),
        torch.einsum("btsij,cij->btc", share, k),
        share.sum((2, 3, 4))[..., None],
    )


def parts(sums: Sums) -> tuple[Tensor, ...]:
    return sums.weighted, sums.plain, sums.of_each(sums.weights), sums.of_each(sums.count)


def answer(neighbours: Neighbours, values: Tensor, table: Tensor) -> tuple[Tensor, ...]:
    """The sums, and the gradients of a function of all of them."""
    got = [part.expand(len(values), -1, -1) for part in parts(neighbours.sums(values, table))]
    loss = sum((part * (part.detach() * 3).cos()).sum() for part in got[:3])
    return *got, *torch.autograd.grad(loss, [values, table])


def alike(a: Tensor, b: Tensor) -> float:
    return float(((a - b).abs().max() / b.abs().max()).detach())


LATTICES = [
    Lattice(9, 14),
    Lattice(9, 14, 0.5),
    Lattice(10, 7, 1 / 3),
    Lattice(8, 11, 2.0),
    Lattice(8, 11, 1.5),
    Lattice(12, 9, 0.4),
]


@pytest.mark.parametrize("lattice", LATTICES, ids=lambda x: f"pitch {x.pitch:.2f}")
@pytest.mark.parametrize("share", [1.0, 0.3, 0.04])
@pytest.mark.parametrize("kind", [Scattered, Listed])
def test_sums_are_their_definition(kind, share: float, lattice: Lattice) -> None:
    points = subset(lattice, 2, share, seeded())
    values, table = some(points)
    got = parts(kind(points, REACH).sums(values, table))
    for a, b in zip(got, brute_force(points, values, table), strict=True):
        assert alike(a, b) < 1e-5


@pytest.mark.parametrize("lattice", LATTICES, ids=lambda x: f"pitch {x.pitch:.2f}")
@pytest.mark.parametrize("share", [1.0, 0.6, 0.25, 0.125, 0.06, 0.03])
def test_scattered_and_listed_agree(share: float, lattice: Lattice) -> None:
    points = subset(lattice, 2, share, seeded())
    values, table = some(points)
    both = [answer(kind(points, REACH), values, table) for kind in (Scattered, Listed)]
    for a, b in zip(*both, strict=True):
        assert alike(a, b) < 1e-5


@pytest.mark.parametrize("kind", [Scattered, Listed])
@pytest.mark.parametrize("pitch", [0.5, 1.5])
def test_gradients_are_those_of_the_definition(kind, pitch: float) -> None:
    points = subset(Lattice(7, 10, pitch), 2, 0.4, seeded())
    values, table = some(points)

    class Definition(Neighbours):
        def sums(self, values: Tensor, table: Tensor) -> Sums:
            return Sums(*brute_force(points, values, table), full=1.0)

    wanted = answer(Definition(), values, table)
    for a, b in zip(answer(kind(points, REACH), values, table), wanted, strict=True):
        assert alike(a, b) < 1e-5


def test_positions_at_pixel_centres() -> None:
    """Positions anywhere that happen to be pixels say what the pixels say."""
    points = subset(Lattice(9, 14), 2, 0.3, seeded())
    anywhere = scattered_points(points.lattice, points.positions)
    values, table = some(points)
    wanted = answer(Scattered(points, REACH), values, table)
    for a, b in zip(answer(neighbours_of(anywhere, REACH), values, table), wanted, strict=True):
        assert alike(a, b) < 1e-5


def test_positions_between_pixels() -> None:
    g = seeded()
    points = scattered_points(Lattice(9, 14), torch.rand(2, 40, 2, generator=g) * 9)
    values, table = some(points)
    neighbours = neighbours_of(points, REACH)
    got = parts(neighbours.sums(values, table))
    for a, b in zip(got, brute_force(points, values, table), strict=True):
        assert alike(a, b) < 1e-5
    # They see more than themselves.
    assert float(got[3].mean()) > 2


@pytest.mark.parametrize("kind", [Scattered, Listed])
def test_order_of_the_points_does_not_matter(kind) -> None:
    points = subset(Lattice(9, 14, 0.5), 2, 0.3, seeded())
    assert points.cells is not None
    values, table = some(points)
    order = torch.randperm(values.shape[1], generator=seeded(3))
    shuffled = points_at(points.lattice, points.cells[:, order])
    got = parts(kind(shuffled, REACH).sums(values[:, order], table))
    for a, b in zip(got, parts(kind(points, REACH).sums(values, table)), strict=True):
        assert alike(a, b[:, order]) < 1e-5


def test_a_list_of_all_pixels_is_the_whole() -> None:
    lattice = Lattice(9, 14, 0.5)
    whole = all_points(lattice, 2)
    assert whole.cells is not None
    values, table = some(whole)
    listed = answer(Scattered(points_at(lattice, whole.cells), REACH), values, table)
    for a, b in zip(answer(Scattered(whole, REACH), values, table), listed, strict=True):
        assert alike(a, b) < 1e-5


@pytest.mark.parametrize("kind", [Scattered, Listed])
def test_points_without_neighbours(kind) -> None:
    points = points_at(Lattice(30, 40), torch.tensor([[0, 1199]]))
    values, table = some(points)
    sums = kind(points, REACH).sums(values, table)
    assert torch.equal(sums.count, torch.ones(1, 2, 1))
    assert torch.allclose(sums.plain, values)
    assert torch.allclose(sums.weighted, values * table[:, REACH, REACH])


def test_functions_do_not_see_each_other() -> None:
    points = subset(Lattice(9, 14), 2, 0.3, seeded())
    assert points.cells is not None
    values, table = some(points)
    alone = points_at(points.lattice, points.cells[1:])
    for kind in (Scattered, Listed):
        got = kind(points, REACH).sums(values, table).weighted[1:]
        assert alike(got, kind(alone, REACH).sums(values[1:], table).weighted) < 1e-6


def test_the_faster_way_is_chosen() -> None:
    lattice = Lattice(40, 40)
    few, many = (subset(lattice, 1, share, seeded()) for share in (SPARSE / 2, 2 * SPARSE))
    assert isinstance(neighbours_of(few, REACH), Listed)
    assert isinstance(neighbours_of(many, REACH), Scattered)
    assert isinstance(neighbours_of(all_points(Lattice(2, 2), 1), REACH), Scattered)


def test_nothing_dense_is_kept() -> None:
    """What backward needs is as large as there are points."""
    points = subset(Lattice(40, 40), 1, 0.25, seeded())
    values, table = some(points)
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    neighbours = Scattered(points, REACH)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        neighbours.sums(values, table)
    allowed = max(values.numel(), neighbours.present.numel())
    assert max(kept) <= allowed < len(points.lattice) * (2 * REACH + 1) ** 2 / 3
