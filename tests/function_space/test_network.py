"""T9 and T10 with the whole network."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from certes.diffusion.bases import CosineBasis
from certes.errors import ModelError
from certes.function_space import network as network_module
from certes.function_space.config import OperatorConfig
from certes.function_space.coordinates import Lattice, Points, all_points, points_at, subset
from certes.function_space.mollifier import Mollifier, squared_frequencies
from certes.function_space.network import OperatorNetwork
from certes.function_space.presets import operator_keys
from certes.networks.unet import UNet

SIDE = 32


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def config(**more: Any) -> OperatorConfig:
    keys = operator_keys(
        SIDE, [16, 32], grid=16, **{"latent": 32, "blocks": 1, "width": 16, **more}
    )
    return OperatorConfig.from_dict(keys)


def network(seed: int = 0, **more: Any) -> OperatorNetwork:
    """With weights that are random everywhere: a fresh one answers zero."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = OperatorNetwork(config(**more))
        for parameter in net.parameters():
            if parameter.dim() > 1 and not parameter.any():
                nn.init.xavier_uniform_(parameter)
    return net.eval()


def told(count: int) -> tuple[Tensor, Tensor]:
    """Times and codes."""
    return torch.linspace(300, 500, count), torch.randn(count, 32, generator=seeded(4))


@torch.no_grad()
def answer(net: OperatorNetwork, values: Tensor, points: Points) -> Tensor:
    return net(values, points, *told(len(values)))


def mollified_coefficients() -> Tensor:
    """Of functions whose spectrum falls as pictures' does, blurred; two of unit variance."""
    shape = (SIDE, SIDE)
    spectrum = (0.05 + squared_frequencies(shape, 1.0)) ** -1.25
    gains = Mollifier(0.75).symbol(shape) * spectrum.sqrt()
    coefficients = torch.randn(2, 1, *shape, generator=seeded(1)) * gains.float()
    return coefficients / CosineBasis().inverse(coefficients).std()


def sampled(coefficients: Tensor, fine: int) -> Tensor:
    """The same functions at pitch 1 / fine."""
    padded = torch.zeros(*coefficients.shape[:2], SIDE * fine, SIDE * fine)
    padded[..., :SIDE, :SIDE] = coefficients * fine
    return CosineBasis().inverse(padded)


def at_resolution(net: OperatorNetwork, fine: int, pitch: float | None = None) -> Tensor:
    pictures = sampled(mollified_coefficients(), fine)
    points = all_points(Lattice(SIDE * fine, SIDE * fine, pitch or 1 / fine), 2)
    return points.picture(answer(net, points.values(pictures), points))


def nested(fine: Tensor, odd: int) -> Tensor:
    """The pixels that lie at the centres of coarser ones."""
    return fine[..., odd // 2 :: odd, odd // 2 :: odd]


def at_centres(fine: Tensor, even: int) -> Tensor:
    """Read half-way between pixels, by the cubic through the four around."""
    weights, first = torch.tensor([-1.0, 9.0, 9.0, -1.0]) / 16, even // 2 - 2
    for _ in range(2):
        near = [fine[..., first + i :: even] * weight for i, weight in enumerate(weights)]
        fine = torch.stack(near).sum(0).mT
    return fine


def error(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def test_t9_the_network_does_not_know_the_lattice() -> None:
    """Errors under 1 % at r = 1, 2, 3, 4 (and 6, whose pixels meet those of 2)."""
    net = network()
    one, two, three, four, six = (at_resolution(net, r) for r in (1, 2, 3, 4, 6))
    errors = [
        error(nested(three, 3), one),
        error(nested(six, 3), two),
        error(at_centres(four, 4), one),
        error(at_centres(six, 6), one),
    ]
    assert max(errors) < 0.01, errors
    # Told that pixels are units, it is another operator: kernels and grid do not scale.
    assert error(nested(at_resolution(net, 3, pitch=1.0), 3), one) > 0.1


class Passed(UNet):
    """In place of the U-Net: the grid, without the points' places and the code."""

    def forward(self, x: Tensor, t: Tensor, context: Tensor | None = None) -> Tensor:
        return x[:, : self.config.out_channels]


def identity() -> OperatorNetwork:
    """Two channels go to the grid and back, and nothing else happens to them."""
    net = OperatorNetwork(config(channels=2, outputs=2))
    net.unet = Passed(net.unet.config)
    net.norm = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    eye = torch.eye(16)
    with torch.no_grad():
        for layer, weight in (
            (net.lift, eye[:, :2]),
            (net.to_grid, eye),
            (net.from_grid, eye),
            (net.skip, torch.cat([0 * eye, eye], dim=1)),
            (net.project, eye[:2]),
        ):
            layer.weight.copy_(weight)
            layer.bias.zero_()
    return net.eval()


def ramp_error(pitch: float, share: float) -> float:
    """Of a picture wider than high that holds its pixels' coordinates, far from borders."""
    lattice = Lattice(round(24 / pitch), round(SIDE / pitch), pitch)
    points = subset(lattice, 2, share, seeded())
    ramp = points.positions / SIDE
    inner = ((points.positions > 4) & (points.positions < torch.tensor([20.0, 28.0]))).all(-1)
    return float((answer(identity(), ramp, points) - ramp)[inner].abs().max())


@pytest.mark.parametrize("pitch", [1.0, 0.5, 1 / 3])
def test_t10_identity(pitch: float) -> None:
    assert ramp_error(pitch, 1.0) < 1e-6


def test_t10_identity_of_a_subset() -> None:
    """Means over what is there are off by no more than a node's distance."""
    assert ramp_error(1.0, 0.25) < 2 / SIDE


def test_defect_transposed_quarter_plane(monkeypatch: pytest.MonkeyPatch) -> None:
    def original(nodes: Tensor, positions: Tensor, spacing: float) -> Tensor:
        unit = positions / (torch.tensor(nodes.shape[-2:]) * spacing)
        return F.grid_sample(nodes, unit[:, None], align_corners=False)[:, :, 0].transpose(1, 2)

    monkeypatch.setattr(network_module, "from_grid", original)
    assert ramp_error(1.0, 1.0) > 0.1


def test_t10_subset_of_all() -> None:
    net, lattice = network(), Lattice(16, 24, 0.5)
    whole = all_points(lattice, 2)
    assert whole.cells is not None
    values = torch.randn(2, len(lattice), 1, generator=seeded())
    listed = points_at(lattice, whole.cells)
    assert torch.allclose(answer(net, values, listed), answer(net, values, whole), atol=1e-5)


@pytest.mark.parametrize("share", [0.3, 0.03])
def test_t10_order_of_the_points_does_not_matter(share: float) -> None:
    net, points = network(), subset(Lattice(24, 40), 2, share, seeded())
    assert points.cells is not None
    values = torch.randn(2, points.positions.shape[1], 1, generator=seeded(1))
    order = torch.randperm(values.shape[1], generator=seeded(2))
    shuffled = points_at(points.lattice, points.cells[:, order])
    got = answer(net, values[:, order], shuffled)
    assert torch.allclose(got, answer(net, values, points)[:, order], atol=1e-4)


def test_t10_lone_points() -> None:
    net, points = network(), points_at(Lattice(64, 96), torch.tensor([[0, 6143]]))
    got = answer(net, torch.ones(1, 2, 1), points)
    assert bool(got.isfinite().all())
    assert answer(net, torch.ones(1, 1, 1), points_at(Lattice(3, 5), torch.tensor([[7]]))).any()


def test_functions_do_not_see_each_other() -> None:
    net, points = network(), subset(Lattice(16, 24), 2, 0.3, seeded())
    assert points.cells is not None
    values = torch.randn(2, points.positions.shape[1], 1, generator=seeded(1))
    time, code = told(2)
    alone = points_at(points.lattice, points.cells[1:])
    with torch.no_grad():
        wanted = net(values[1:], alone, time[1:], code[1:])
    assert torch.allclose(answer(net, values, points)[1:], wanted, atol=1e-5)


def test_a_withheld_code_is_no_code() -> None:
    net, points = network(), all_points(Lattice(SIDE, SIDE), 2)
    values = torch.randn(2, SIDE**2, 1, generator=seeded())
    time, code = told(2)
    with torch.no_grad():
        none = net(values, points, time)
        withheld = net(values, points, time, code, torch.zeros(2))
        shown = net(values, points, time, code, torch.ones(2))
        plain = net(values, points, time, code)
    assert torch.allclose(withheld, none, atol=1e-6)
    assert torch.allclose(shown, plain, atol=1e-6)
    assert error(shown, none) > 0.01


def test_gradients_are_those_of_differences() -> None:
    """Of a subset, through convolutions, grid and skip."""
    net, points = network(), subset(Lattice(16, 16), 1, 0.4, seeded())
    values = torch.randn(1, points.positions.shape[1], 1, generator=seeded(1), requires_grad=True)
    direction = torch.randn(values.shape, generator=seeded(2))
    loss = net(values, points, torch.tensor([400.0])).square().sum()
    (gradient,) = torch.autograd.grad(loss, values)
    step = 1e-2
    with torch.no_grad():
        high, low = (
            float(net(values + s * step * direction, points, torch.tensor([400.0])).square().sum())
            for s in (1, -1)
        )
    assert math.isclose(
        (high - low) / (2 * step), float((gradient * direction).sum()), rel_tol=2e-2
    )


@pytest.mark.parametrize("share", [1.0, 0.25, 0.03])
def test_full_kernels_at_any_share(share: float) -> None:
    net, points = network(convolution="full"), subset(Lattice(SIDE, SIDE), 2, share, seeded())
    values = torch.randn(2, points.positions.shape[1], 1, generator=seeded(1))
    assert bool(answer(net, values, points).isfinite().all())


def test_a_fresh_network_answers_zero() -> None:
    net, points = OperatorNetwork(config()), all_points(Lattice(SIDE, SIDE), 1)
    assert not answer(net, torch.randn(1, SIDE**2, 1, generator=seeded()), points).any()


def test_configs() -> None:
    whole = config()
    assert OperatorConfig.from_dict(whole.to_dict()) == whole
    for broken in ({"convolution": "x"}, {"outputs": 3}, {"latent": 7}, {"spacing": 0.0}):
        with pytest.raises(ModelError):
            OperatorConfig.from_dict({**whole.to_dict(), **broken})
    with pytest.raises(ModelError, match="channels in"):
        OperatorConfig.from_dict({**whole.to_dict(), "latent": 0})
