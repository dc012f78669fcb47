"""A network on pairs, read as a conditional denoiser: units, levels, and nothing else."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from certes.conditional.presets import PRESETS
from certes.errors import ModelError
from certes.networks.conditional import (
    Block,
    ConditionalNetworkDenoiser,
    block_from_config,
    shrinkage,
)
from certes.networks.unet import UNet, UNetConfig, initialise

from .conftest import FormulaNet, denoiser_of, generator, pairs, tensor

X, Y = Block(1, 0.4, 0.3), Block(1, 0.35, 0.25)
LEVELS = tensor(0.0, 0.002, 0.3, 5.0, 277.0)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def test_a_velocity_holds_the_picture() -> None:
    x0, noise = normal(5, 2, 3, 4), normal(5, 2, 3, 4, seed=1)
    block = Block(2, 0.4, 0.3)
    seen = block.seen(x0 + LEVELS[:, None, None, None] * noise, LEVELS)
    velocity = block.velocity(x0, noise, LEVELS)
    torch.testing.assert_close(block.clean(seen, velocity, LEVELS), x0, rtol=0, atol=1e-12)
    # z = cos a z_0 + sin a e and v = cos a e - sin a z_0 are one rotation of (z_0, e).
    z0, angle = block.normalised(x0), (LEVELS / 0.3).atan()[:, None, None, None]
    torch.testing.assert_close(seen, angle.cos() * z0 + angle.sin() * noise)
    torch.testing.assert_close(velocity, angle.cos() * noise - angle.sin() * z0)


def test_what_is_seen_has_unit_variance() -> None:
    x0 = 0.4 + 0.3 * normal(5, 1, 100, 100)
    x = x0 + LEVELS[:, None, None, None] * normal(5, 1, 100, 100, seed=1)
    spread = X.seen(x, LEVELS).flatten(1).std(1)
    torch.testing.assert_close(spread, torch.ones_like(spread), rtol=0.03, atol=0)


def test_shrinkage_keeps_the_precision_of_pictures() -> None:
    single = shrinkage(LEVELS, torch.zeros(1, dtype=torch.float32))
    assert single.dtype == torch.float32
    assert single.shape == (5, 1, 1, 1)
    torch.testing.assert_close(single.flatten().double(), (1 + LEVELS**2) ** -0.5)


def test_levels_are_told_in_the_units_of_the_block() -> None:
    told = Y.told(LEVELS)
    torch.testing.assert_close(told[1:], 100 * (LEVELS[1:] / 0.25).log())
    assert told[0] == pytest.approx(100 * math.log(1e-4))  # none at all is a faint one
    assert Block(**Y.to_config()) == Y


def exact_answer(x: Tensor, told: Tensor) -> Tensor:
    """The velocities of the exact model: a network that has learned everything."""
    sigma = [block.scale * (told[:, b].double() / 100).exp() for b, block in enumerate((X, Y))]
    images = [
        block.center + block.scale * x[:, b : b + 1] / shrinkage(block.ratio(sigma[b]), x)
        for b, block in enumerate((X, Y))
    ]
    known = pairs().denoiser()(images[0], sigma[0], images[1], sigma[1])
    assert known.y is not None
    answers: list[Tensor] = []
    for b, (block, mean) in enumerate(((X, known.x.mean), (Y, known.y))):
        noise = (images[b] - mean) / sigma[b][:, None, None, None]
        answers.append(block.velocity(mean, noise, sigma[b]))
    return torch.cat(answers, dim=1)


def test_a_network_that_knows_everything_is_the_exact_denoiser() -> None:
    x, y = pairs().sample(4, 0)
    level_x, level_y = tensor(0.01, 0.2, 1.5, 40.0), tensor(0.5, 0.02, 3.0, 0.1)
    x = x + level_x[:, None, None, None] * normal(*x.shape)
    y = y + level_y[:, None, None, None] * normal(*y.shape, seed=1)
    found = denoiser_of(exact_answer, X, Y)(x, level_x, y, level_y)
    true = pairs().denoiser()(x, level_x, y, level_y)
    torch.testing.assert_close(found.x.mean, true.x.mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.y, true.y, rtol=1e-9, atol=1e-9)


def bounded(x: Tensor, told: Tensor) -> Tensor:
    return torch.tanh(3 * x + told.sum(1).to(x)[:, None, None, None])


def test_without_noise_pictures_are_their_own_estimates() -> None:
    x, y = pairs().sample(4, 0)
    none = torch.zeros(4, dtype=torch.float64)
    answer = denoiser_of(bounded, X, Y)(x, none, y, none)
    torch.testing.assert_close(answer.x.mean, x, rtol=0, atol=1e-12)
    torch.testing.assert_close(answer.y, y, rtol=0, atol=1e-12)
    faint = denoiser_of(bounded, X, Y)(x, none + 0.002, y, none).x.mean
    assert 0 < (faint - x).abs().max() <= 0.0021  # |v| < 1 moves no pixel further than the noise


def told_only(x: Tensor, told: Tensor) -> Tensor:
    return told.to(x)[:, :, None, None] + 0 * x


def test_each_block_is_told_its_own_level() -> None:
    """The network's answer here is what it was told; the picture's estimate gives it back."""
    x, y = torch.zeros(2, 1, 1, 2).double(), torch.zeros(2, 1, 1, 2).double()
    level_x, level_y = tensor(0.3, 0.6), tensor(0.5, 0.01)
    answer = denoiser_of(told_only, X, Y)(x, level_x, y, level_y)
    assert answer.y is not None
    for block, level, mean in ((X, level_x, answer.x.mean), (Y, level_y, answer.y)):
        seen, told = block.seen(torch.zeros_like(x), level), block.told(level)
        expected = block.clean(seen, told[:, None, None, None].expand_as(seen), level)
        torch.testing.assert_close(mean, expected)


def test_conditions_need_not_be_estimated() -> None:
    def of_x(x: Tensor, told: Tensor) -> Tensor:
        return exact_answer(x, told)[:, :1]

    x, y = pairs().sample(3, 0)
    sigma = tensor(0.1, 0.5, 2.0)
    alone, both = denoiser_of(of_x, X, Y, predicts_y=False), denoiser_of(exact_answer, X, Y)
    assert both.predicts_y
    assert not alone.predicts_y
    answer = alone(x, sigma, y, sigma)
    assert answer.y is None
    torch.testing.assert_close(answer.x.mean, both(x, sigma, y, sigma).x.mean)


def test_gradients_flow_only_if_asked() -> None:
    denoiser = denoiser_of(bounded, X, Y)
    x, y = pairs().sample(2, 0)
    sigma = tensor(0.3, 0.6)
    assert not denoiser(x, sigma, y, sigma).x.mean.requires_grad
    for leaf in (x, y):
        leaf.requires_grad_()
        mean = denoiser(x, sigma, y, sigma).x.mean
        (gradient,) = torch.autograd.grad(mean.sum(), leaf)
        assert gradient.isfinite().all()
        with torch.no_grad():
            assert not denoiser(x, sigma, y, sigma).x.mean.requires_grad
        leaf.requires_grad_(False)
    # By differences, in the direction of all ones.
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(denoiser(x, sigma, y, sigma).x.mean.sum(), x)
    with torch.no_grad():
        ahead, behind = (denoiser(x + h, sigma, y, sigma).x.mean.sum() for h in (1e-5, -1e-5))
    torch.testing.assert_close(gradient.sum(), (ahead - behind) / 2e-5, rtol=1e-5, atol=0)


def test_pictures_of_another_shape_are_refused() -> None:
    denoiser = denoiser_of(bounded, X, Y)
    sigma = tensor(0.1)
    x, wide, coloured = (torch.zeros(1, *shape) for shape in ((1, 4, 4), (1, 4, 8), (3, 4, 4)))
    for first, second in ((coloured, x), (x, coloured), (x, wide)):
        with pytest.raises(ModelError, match=r"model: picture \(.*\) and condition \(.*\); wanted"):
            denoiser(first, sigma, second, sigma)


@pytest.mark.parametrize(
    ("channels", "levels", "message"),
    [
        ((3, 2), 2, "3 channels in and 2 out"),
        ((2, 3), 2, "2 channels in and 3 out"),
        ((2, 1), 1, "noise_levels = 1; pairs have 2"),
    ],
)
def test_networks_of_another_shape_are_refused(
    channels: tuple[int, int], levels: int, message: str
) -> None:
    net: Any = FormulaNet(channels, bounded, levels)
    with pytest.raises(ModelError, match=message) as error:
        ConditionalNetworkDenoiser(net, X, Y)
    assert "\n" not in str(error.value)


def unet(levels: int) -> UNet:
    keys = PRESETS["tiny-conditional"].network | {"noise_levels": levels, "stem": 1}
    net = UNet(UNetConfig.from_dict(keys))
    for name, value in net.state_dict().items():
        value.copy_(0.2 * torch.randn(value.shape, generator=generator(len(name))))
    return net.double()


@torch.no_grad()
def test_a_unet_hears_every_level() -> None:
    net, x = unet(2), normal(1, 2, 8, 8)
    answers = [
        net(x, tensor(first, second)[None]) for first, second in ((100, 3), (101, 3), (100, 4))
    ]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (answers[one] - answers[other]).abs().max() > 1e-6
    swapped = net(x, tensor(3, 100)[None])
    assert (answers[0] - swapped).abs().max() > 1e-6
    with pytest.raises(ValueError, match="zip"):
        net(x, tensor(100))


@torch.no_grad()
def test_one_level_is_the_network_that_it_was() -> None:
    """The second level's embedding is added: with nothing in it, it is not there."""
    one, two = unet(1), unet(2)
    names = two.state_dict().keys() - one.state_dict().keys()
    assert names
    assert all(name.startswith("level_embeddings.0.") for name in names)
    two.load_state_dict(one.state_dict(), strict=False)
    for value in two.level_embeddings.parameters():
        value.zero_()
    x, t = normal(3, 2, 8, 8), tensor(5.0, 100.0, 900.0)
    expected = one(x, t)
    assert torch.equal(one(x, t[:, None]), expected)
    assert torch.equal(two(x, torch.stack([t, t.flip(0)], dim=1)), expected)


def test_configs_of_one_level_say_nothing_of_levels() -> None:
    """What names models by their configuration still gives old ones their names."""
    keys = {k: v for k, v in PRESETS["tiny-conditional"].network.items() if k != "noise_levels"}
    one, two = (UNetConfig.from_dict(keys | {"noise_levels": levels}) for levels in (1, 2))
    assert one == UNetConfig.from_dict(keys)
    assert "noise_levels" not in one.to_dict()
    assert "noise_levels" not in one.differences()
    assert two.to_dict() == one.to_dict() | {"noise_levels": 2}
    assert UNetConfig.from_dict(two.to_dict()) == two


def test_one_level_is_initialised_as_ever() -> None:
    """Random numbers are drawn in the same order whether or not there is a list of embeddings."""
    keys = {k: v for k, v in PRESETS["tiny-conditional"].network.items() if k != "noise_levels"}
    net = UNet(UNetConfig.from_dict(keys))
    torch.manual_seed(3)
    initialise(net)
    torch.manual_seed(3)
    first = torch.nn.init.xavier_uniform_(torch.empty_like(net.conv_in.weight))
    second = torch.nn.init.xavier_uniform_(torch.empty_like(net.time_embedding.linear_1.weight))
    assert torch.equal(net.conv_in.weight, first)
    assert torch.equal(net.time_embedding.linear_1.weight, second)


def test_a_damaged_block_is_named() -> None:
    with pytest.raises(ModelError, match=r"block: \{'channels': 1, 'colour': 2\}"):
        block_from_config({"channels": 1, "colour": 2})
    assert block_from_config(Block(2, 0.3, 0.4).to_config()) == Block(2, 0.3, 0.4)
