from typing import Any

import pytest
import torch
from torch import Tensor, nn

from certes.function_space.autoencoder import DiffusionAutoencoder, Encoder, pack, unpack
from certes.function_space.config import OperatorConfig
from certes.function_space.coordinates import Lattice, Points, all_points, points_at, subset
from certes.function_space.presets import operator_keys

SIDE = 32


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def config(**more: Any) -> OperatorConfig:
    keys = {"latent": 32, "blocks": 1, "width": 16, "encoder": (16, 32), **more}
    return OperatorConfig.from_dict(operator_keys(SIDE, [16, 32], grid=16, **keys))


def smooth(points: Points) -> Tensor:
    rows, columns = (points.positions[..., i] * (torch.pi / SIDE) for i in (0, 1))
    return ((2 * rows).cos() + (3 * columns).cos() * rows.cos())[..., None]


def encoder() -> Encoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Encoder(config()).eval()


def error(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("fine", [2, 3, 4])
def test_codes_do_not_know_the_resolution(fine: int) -> None:
    net = encoder()
    lattices = Lattice(SIDE, SIDE), Lattice(SIDE * fine, SIDE * fine, 1 / fine)
    with torch.no_grad():
        coarse, fine_code = (net(smooth(p), p) for p in (all_points(x, 1) for x in lattices))
        # As the published encoder does it: pixels taken for units.
        unscaled = all_points(Lattice(SIDE * fine, SIDE * fine), 1)
        wrong = net(smooth(all_points(lattices[1], 1)), unscaled)
    assert coarse.shape == (1, 32)
    assert error(fine_code, coarse) < 0.02
    assert error(wrong, coarse) > 0.2


def test_codes_hardly_depend_on_the_choice_of_points() -> None:
    net, whole = encoder(), all_points(Lattice(SIDE, SIDE), 1)
    with torch.no_grad():
        wanted = net(smooth(whole), whole)
        points = subset(whole.lattice, 1, 0.25, seeded(), "low-discrepancy")
        other = net(-smooth(points), points)
        code = net(smooth(points), points)
    assert error(code, wanted) < 0.5 * error(other, wanted)


def test_order_of_the_points_does_not_matter() -> None:
    net, points = encoder(), subset(Lattice(SIDE, SIDE), 1, 0.25, seeded())
    assert points.cells is not None
    order = torch.randperm(points.cells.shape[1], generator=seeded(1))
    shuffled = points_at(points.lattice, points.cells[:, order])
    with torch.no_grad():
        assert torch.allclose(
            net(smooth(points), points), net(smooth(shuffled), shuffled), atol=1e-5
        )


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_what_is_packed_comes_back(share: float) -> None:
    lattice = Lattice(SIDE, SIDE)
    seen, clean = (subset(lattice, 2, share, seeded(i)) for i in (0, 1))
    functions = [
        (torch.randn(2, p.positions.shape[1], 1, generator=seeded(2)), p) for p in (seen, clean)
    ]
    packed = pack(*functions)
    assert packed.shape == (2, 6, len(seen.positions[0]), 1)
    back = unpack(packed, config())
    for (sent, points), got in zip(functions, back, strict=True):
        assert got is not None
        assert torch.equal(got[0], sent)
        assert points.cells is not None
        assert got[1].cells is not None
        assert torch.equal(got[1].cells, points.cells)
        assert got[1].whole == points.whole
    assert unpack(pack(functions[0], None), config(latent=0))[1] is None


def test_the_code_reaches_the_answer() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = DiffusionAutoencoder(config()).eval()
        for parameter in net.parameters():
            if parameter.dim() > 1 and not parameter.any():
                nn.init.xavier_uniform_(parameter)
    points = subset(Lattice(SIDE, SIDE), 2, 0.25, seeded())
    noisy = torch.randn(2, points.positions.shape[1], 1, generator=seeded(1))
    clean = smooth(points).requires_grad_()
    packed = pack((noisy, points), (clean, points))
    answer = net(packed, torch.tensor([[300.0, 1.0], [300.0, 0.0]]))
    assert answer.shape == (2, 2, points.positions.shape[1], 1)
    (gradient,) = torch.autograd.grad(answer.square().sum(), clean)
    assert bool(gradient[0].any())
    # Withheld from the second.
    assert not gradient[1].any()


def test_without_a_code() -> None:
    net = DiffusionAutoencoder(config(latent=0))
    assert net.encoder is None
    points = all_points(Lattice(SIDE, SIDE), 1)
    answer = net(pack((torch.zeros(1, SIDE**2, 1), points), None), torch.tensor([[300.0, 0.0]]))
    assert not answer.any()
