"""A diffusion model's network with another last layer: where it starts, what it sees and says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from certes.diffusion.parametrisation import Parametrisation
from certes.diffusion.schedules import Cosine, Schedule, linear_betas
from certes.errors import ModelError
from certes.networks.conditional import Block, ConditionalNetworkDenoiser
from certes.networks.denoiser import NetworkDenoiser
from certes.networks.heads import HEADS, Quantiles, head_named
from certes.networks.one_pass import (
    OnePassNetwork,
    PairFront,
    PictureFront,
    front_from_config,
    general,
    narrow,
)
from certes.networks.unet import UNet, UNetConfig

from .conftest import scramble

SIGMA = 20.0
X, Y = Block(3, 0.3, 0.4), Block(2, 0.2, 0.1)
QUANTILES = Quantiles(0.1, X)


def net(inputs: int, outputs: int, **other: Any) -> UNet:
    """Seen through a stem."""
    config = UNetConfig(
        in_channels=inputs,
        out_channels=outputs,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        add_attention=False,
        stem=2,
        **other,
    )
    made = UNet(config).eval()
    scramble(made)
    return made


def of_pairs(predicts_y: bool = True, dropout: float = 0.0) -> ConditionalNetworkDenoiser:
    """Colour pictures and conditions of two channels."""
    inputs, outputs = X.channels + Y.channels, X.channels + Y.channels * predicts_y
    made = net(inputs, outputs, noise_levels=2, dropout=dropout)
    return ConditionalNetworkDenoiser(made, X, Y)


def of_pictures(prediction: str, schedule: Schedule, outputs: int = 6) -> NetworkDenoiser:
    """Colour pictures, with or without variances."""
    parametrisation = Parametrisation(prediction)
    return NetworkDenoiser(net(3, outputs), schedule, parametrisation, X.center, X.scale)


def pictures(channels: int, count: int = 2) -> Tensor:
    return torch.rand(count, channels, 10, 14, generator=torch.Generator().manual_seed(0))


def own_estimate(of: ConditionalNetworkDenoiser, y: Tensor) -> Tensor:
    """What the network itself says where x_t is at its expected value and drowned."""
    x_t = torch.full((len(y), X.channels, *y.shape[2:]), X.center)
    return of(x_t, torch.full((len(y),), SIGMA), y, torch.zeros(len(y))).x.mean


@pytest.mark.parametrize("predicts_y", [True, False])
def test_from_a_conditional_network_all_start_at_its_own_estimate(predicts_y: bool) -> None:
    before, y = of_pairs(predicts_y), pictures(2)
    answer, estimate = narrow(before, SIGMA, QUANTILES)(y), own_estimate(before, y)
    assert answer.shape == (2, 3, 3, 10, 14)
    for part in answer.unbind(1):
        torch.testing.assert_close(part, estimate, rtol=1e-5, atol=1e-5)
    # Its channels differ, and so do its pictures and another level's.
    assert float((estimate[:, 0] - estimate[:, 1]).abs().mean()) > 1e-2
    assert float((estimate[0] - estimate[1]).abs().mean()) > 1e-2
    assert float((narrow(before, 0.5, QUANTILES)(y)[:, 1] - estimate).abs().mean()) > 1e-2


@pytest.mark.parametrize("prediction", ["v", "noise", "x0", "score"])
@pytest.mark.parametrize("schedule", [Cosine(), linear_betas()])
@pytest.mark.parametrize("outputs", [3, 6])
def test_from_a_network_of_pictures_all_start_at_its_own_estimate(
    prediction: str, schedule: Schedule, outputs: int
) -> None:
    before, y, level = of_pictures(prediction, schedule, outputs), pictures(3), 0.3
    estimate = before(y, torch.full((len(y),), level)).mean
    made = general(before, level, 1, QUANTILES)
    with_mask = torch.cat([y, torch.rand(2, 1, 10, 14)], dim=1)
    for part in made(with_mask).unbind(1):
        torch.testing.assert_close(part, estimate, rtol=1e-4, atol=2e-5)
    # Negative control: told another level, it says something else.
    other = general(before, 0.1, 1, QUANTILES)(with_mask)[:, 1]
    assert float((other - estimate).abs().mean()) > 1e-3


def test_the_gain_of_the_told_level_is_in_the_last_layer() -> None:
    """An answer moves a bound by as many network units, however little noise is told."""
    for level in (1e-3, 1.0):
        made = general(of_pictures("noise", Cosine()), level, 0, QUANTILES)
        y = pictures(3)
        before = made(y)
        with torch.no_grad():
            made.net.state_dict()["conv_out.bias"][:12] += 1.0  # lower ends
        moved = (made(y) - before) / X.scale
        torch.testing.assert_close(moved[:, 0], torch.ones_like(y), rtol=1e-3, atol=1e-3)
        assert float(moved[:, 1:].abs().max()) == 0.0


def test_a_mask_counts_once_it_is_learned() -> None:
    made, y = general(of_pictures("v", Cosine()), 0.3, 1, QUANTILES), pictures(3)
    masks = [torch.cat([y, value * torch.ones(2, 1, 10, 14)], dim=1) for value in (0, 1)]
    torch.testing.assert_close(made(masks[0]), made(masks[1]))
    with torch.no_grad():
        made.net.conv_in.weight[:, -1] += 1.0
    assert float((made(masks[0]) - made(masks[1])).abs().mean()) > 1e-3


def test_the_parts_are_a_copy_and_no_longer_tied() -> None:
    before, y = of_pairs(), pictures(2)
    estimate, made = own_estimate(before, y), narrow(before, SIGMA, QUANTILES)
    with torch.no_grad():
        made.net.state_dict()["conv_out.bias"][:12] += 1.0
        moved, *others = made(y).unbind(1)
        made.net.conv_in.weight.zero_()
    assert float((moved - estimate).abs().min()) > 0.1
    for part in others:
        torch.testing.assert_close(part, estimate, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(own_estimate(before, y), estimate, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["gaussian", "magnitude"])
def test_sizes_of_errors_start_at_one_value(kind: str) -> None:
    before, y = of_pairs(), pictures(2)
    lower, estimate, upper = narrow(before, SIGMA, head_named(kind, 0.1, X))(y).unbind(1)
    torch.testing.assert_close(estimate, own_estimate(before, y), rtol=1e-5, atol=1e-5)
    half = torch.full_like(estimate, 0.3 * X.scale)
    for found in (estimate - lower, upper - estimate):
        torch.testing.assert_close(found, half, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", HEADS)
def test_every_head_fits_every_front(kind: str) -> None:
    head = head_named(kind, 0.1, X)
    narrowed = narrow(of_pairs(), SIGMA, head)(pictures(2))
    widened = general(of_pictures("v", Cosine()), 0.3, 1, head)(pictures(4))
    for ends in (narrowed, widened):
        assert ends.shape == (2, 3, 3, 10, 14)
        assert bool(ends.isfinite().all())


def test_it_sees_nothing_of_the_picture_and_a_clean_condition() -> None:
    front, y = PairFront(X, Y, SIGMA), pictures(2)
    seen, told = front.inputs(y)
    assert not seen[:, :3].any()
    torch.testing.assert_close(seen[:, 3:], (y - Y.center) / Y.scale)
    torch.testing.assert_close(told[0, 0], X.told(torch.tensor(SIGMA)))
    torch.testing.assert_close(told[0, 1], Y.told(torch.tensor(0.0)))


def test_a_condition_has_one_answer_whatever_its_batch() -> None:
    made, y = narrow(of_pairs(dropout=0.5), SIGMA, QUANTILES), pictures(2, 5)
    torch.testing.assert_close(made(y)[3:4], made(y[3:4]), rtol=1e-5, atol=1e-5)


def test_dropout_is_not_left_on() -> None:
    made, y = narrow(of_pairs(dropout=0.5), SIGMA, QUANTILES), pictures(2)
    made.net.train()
    with pytest.raises(ModelError, match=r"training mode, with dropout on; call net.eval\(\)"):
        made(y)


@pytest.mark.parametrize("front", [PairFront(X, Y, SIGMA), PictureFront(X, 1, 0.9, 0.8, 120.0)])
def test_a_front_survives_its_description(front: PairFront | PictureFront) -> None:
    assert front_from_config(front.to_config()) == front
    for broken in ({"kind": "other"}, {"surplus": 1}):
        with pytest.raises(ModelError, match="describes none"):
            front_from_config({**front.to_config(), **broken})


def test_a_network_of_other_channels_is_refused() -> None:
    made = narrow(of_pairs(), SIGMA, QUANTILES)
    with pytest.raises(ModelError, match="5 channels in and 9 out; conditions of 1"):
        OnePassNetwork(made.net, PairFront(X, replace(Y, channels=1), SIGMA), QUANTILES)
