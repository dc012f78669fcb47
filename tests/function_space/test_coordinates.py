import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from certes.errors import InputError
from certes.function_space.coordinates import (
    Lattice,
    all_points,
    points_at,
    scattered_points,
    subset,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_pixel_centres() -> None:
    lattice = Lattice(2, 3, 0.5)
    wanted = torch.tensor([[0.25, 0.25], [0.25, 0.75], [0.25, 1.25], [0.75, 0.25]])
    assert torch.equal(lattice.centres(torch.arange(4)), wanted)
    assert lattice.extent == (1.0, 1.5)


def cell_centred(lattice: Lattice) -> torch.Tensor:
    return lattice.centres(torch.arange(len(lattice))).view(*lattice.shape, 2)[:, 0, 0]


def corner_aligned(lattice: Lattice) -> torch.Tensor:
    return torch.linspace(0, lattice.extent[0], lattice.height)


def shift(rows) -> float:
    """How far a picture moves when its resolution is doubled: pixels against their halves."""
    coarse, fine = rows(Lattice(8, 8)), rows(Lattice(16, 16, 0.5))
    return float((fine.view(8, 2).mean(1) - coarse).abs().max())


def test_defect_corner_aligned_coordinates() -> None:
    assert shift(cell_centred) < 1e-6
    # The original's first and last pixel lie on the border.
    assert shift(corner_aligned) > 0.25


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([0.25, 1 / 3, 1.0, 1.5]))
def test_cells_are_where_centres_lie(height: int, width: int, pitch: float) -> None:
    lattice = Lattice(height, width, pitch)
    cells = torch.arange(len(lattice))
    assert torch.equal(lattice.cells(lattice.centres(cells)), cells)


def test_values_of_pixels() -> None:
    lattice = Lattice(3, 5)
    picture = torch.arange(30.0).view(2, 1, 3, 5)
    points = points_at(lattice, torch.tensor([[4, 0], [7, 14]]))
    assert torch.equal(points.values(picture)[..., 0], torch.tensor([[4.0, 0.0], [22.0, 29.0]]))
    whole = all_points(lattice, 2)
    assert torch.equal(whole.picture(whole.values(picture)), picture)
    with pytest.raises(InputError, match="not all pixels"):
        points.picture(points.values(picture))


def test_scattered_points_have_no_pixels() -> None:
    lattice = Lattice(3, 5, 2.0)
    points = scattered_points(lattice, torch.tensor([[[6.0, 10.0], [0.0, 0.3]]]))
    with pytest.raises(InputError, match="between pixels"):
        points.values(torch.zeros(1, 1, 3, 5))
    with pytest.raises(InputError, match="outside of the domain, 6 by 10"):
        scattered_points(lattice, torch.tensor([[[6.1, 1.0]]]))


@pytest.mark.parametrize("sequence", ["uniform", "low-discrepancy"])
@pytest.mark.parametrize("share", [0.06, 0.25, 0.99])
def test_subsets(sequence, share: float) -> None:
    lattice = Lattice(12, 20)
    points = subset(lattice, 3, share, seeded(), sequence)
    again = subset(lattice, 3, share, seeded(), sequence)
    assert points.cells is not None
    assert again.cells is not None
    assert points.cells.shape == (3, round(share * 240))
    assert torch.equal(points.cells, again.cells)
    assert all(len(row.unique()) == len(row) for row in points.cells)
    assert not torch.equal(points.cells[0], points.cells[1])
    assert not points.whole


def test_all_of_a_subset() -> None:
    points = subset(Lattice(4, 6), 2, 1.0, seeded())
    assert points.whole
    assert points.density == 1


def test_uniform_subsets_are_uniform() -> None:
    """Every pixel is as likely as any other."""
    points = subset(Lattice(6, 6), 4000, 0.25, seeded())
    assert points.cells is not None
    counts = points.cells.flatten().bincount(minlength=36)
    spread = (4000 * 0.25 * 0.75) ** 0.5
    assert ((counts - 1000).abs() < 4.5 * spread).all()


def block_counts(sequence) -> float:
    """Spread of the number of points in blocks of 4 x 4 pixels."""
    points = subset(Lattice(32, 32), 8, 0.25, seeded(), sequence)
    chosen = torch.zeros(8, 1024).scatter_(1, points.cells, 1.0).view(8, 1, 32, 32)
    return float(torch.nn.functional.avg_pool2d(chosen, 4).std() * 16)


def test_low_discrepancy_keeps_its_distance() -> None:
    assert block_counts("low-discrepancy") < 0.6 * block_counts("uniform")


@pytest.mark.parametrize(("share", "sequence"), [(0.0, "uniform"), (1.1, "uniform"), (0.5, "x")])
def test_subsets_refuse(share: float, sequence) -> None:
    with pytest.raises(InputError, match=r"share|sequence"):
        subset(Lattice(4, 4), 1, share, seeded(), sequence)
