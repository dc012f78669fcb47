"""A conditional network with its last layer repeated: where it starts, what it sees and says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from certes.networks.bounds import HEADS, BoundsNetwork, pinball, three_heads
from certes.networks.conditional import Block, ConditionalNetworkDenoiser
from certes.networks.unet import UNet, UNetConfig

from .conftest import scramble

SIGMA = 20.0
X, Y = Block(3, 0.3, 0.4), Block(2, 0.2, 0.1)


def denoiser(predicts_y: bool = True, dropout: float = 0.0) -> ConditionalNetworkDenoiser:
    """Colour pictures and conditions of two channels, seen through a stem."""
    config = UNetConfig(
        in_channels=X.channels + Y.channels,
        out_channels=X.channels + Y.channels * predicts_y,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        add_attention=False,
        noise_levels=2,
        stem=2,
        dropout=dropout,
    )
    net = UNet(config).eval()
    scramble(net)
    return ConditionalNetworkDenoiser(net, X, Y)


def conditions(count: int = 2) -> Tensor:
    return torch.rand(count, 2, 10, 14, generator=torch.Generator().manual_seed(0))


def own_estimate(of: ConditionalNetworkDenoiser, y: Tensor) -> tuple[Tensor, Tensor | None]:
    """What the network itself says where x_t is at its expected value and drowned."""
    x_t = torch.full((len(y), X.channels, *y.shape[2:]), X.center)
    answer = of(x_t, torch.full((len(y),), SIGMA), y, torch.zeros(len(y)))
    return answer.x.mean, answer.y


@pytest.mark.parametrize("predicts_y", [True, False])
def test_all_three_start_at_the_networks_own_estimate(predicts_y: bool) -> None:
    before, y = denoiser(predicts_y), conditions()
    answer, (estimate, of_y) = three_heads(before, SIGMA)(y), own_estimate(before, y)
    assert answer.shape == (2, HEADS, 3, 10, 14)
    for head in answer.unbind(1):
        torch.testing.assert_close(head, estimate, rtol=1e-5, atol=1e-5)
    # Its channels differ, and so do its pictures, its condition's estimate and another level's.
    assert float((estimate[:, 0] - estimate[:, 1]).abs().mean()) > 1e-2
    assert float((estimate[0] - estimate[1]).abs().mean()) > 1e-2
    assert of_y is None or float((of_y - estimate[:, :2]).abs().mean()) > 1e-2
    assert float((three_heads(before, 0.5)(y)[:, 1] - estimate).abs().mean()) > 1e-2


def test_the_heads_are_a_copy_and_no_longer_tied() -> None:
    before, y = denoiser(), conditions()
    estimate, network = own_estimate(before, y)[0], three_heads(before, SIGMA)
    bias = network.net.state_dict()["conv_out.bias"]
    with torch.no_grad():
        bias[: len(bias) // HEADS] += 1.0
        moved, *others = network(y).unbind(1)
        network.net.conv_in.weight.zero_()
    assert float((moved - estimate).abs().min()) > 0.1
    for head in others:
        torch.testing.assert_close(head, estimate, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(own_estimate(before, y)[0], estimate, rtol=0, atol=0)


def test_it_sees_nothing_of_the_picture_and_a_clean_condition() -> None:
    network, y = three_heads(denoiser(), SIGMA), conditions()
    seen, told = network.inputs(y)
    assert not seen[:, :3].any()
    torch.testing.assert_close(seen[:, 3:], (y - Y.center) / Y.scale)
    torch.testing.assert_close(told[0, 0], X.told(torch.tensor(SIGMA)))
    torch.testing.assert_close(told[0, 1], Y.told(torch.tensor(0.0)))


def test_an_answer_is_read_as_the_velocity_of_a_picture_that_noise_hides() -> None:
    network = BoundsNetwork(denoiser().net, X, Y, SIGMA)
    shape = (2, HEADS, 3, 4, 4)
    x0 = torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    flat = x0.flatten(0, 1)
    sigma = flat.new_full((len(flat),), SIGMA)
    # z_t = 0: the noise is what takes z_0 there.
    noise = -X.normalised(flat) / X.ratio(sigma)[:, None, None, None]
    answer = X.velocity(flat, noise, sigma).reshape(2, HEADS * 3, 4, 4)
    torch.testing.assert_close(network.read(answer), x0)


def test_a_condition_has_one_answer_whatever_its_batch() -> None:
    network, y = three_heads(denoiser(dropout=0.5), SIGMA), conditions(5)
    torch.testing.assert_close(network(y)[3:4], network(y[3:4]), rtol=1e-5, atol=1e-5)
    network.net.train()  # negative control: with dropout it has not
    assert float((network(y)[3:4] - network(y[3:4])).abs().mean()) > 1e-2


@pytest.mark.parametrize("level", [0.05, 0.5, 0.95])
def test_the_quantile_loss(level: float) -> None:
    truth = torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64)
    answer = torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64)
    expected = torch.tensor([level, 0.0, 2 * (1 - level)], dtype=torch.float64)
    torch.testing.assert_close(pinball(answer, truth, level), expected)
