"""Learned ranges: with single steps of the table, the variances are those of the papers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from certes.diffusion.noise import NoiseSource
from certes.diffusion.parametrisation import NAMES, Parametrisation
from certes.diffusion.process import Process
from certes.diffusion.reverse import reverse_variance
from certes.diffusion.schedules import Cosine, DiscreteBetas, linear_betas
from certes.errors import ModelError
from certes.networks import NetworkDenoiser, UNet, UNetConfig
from certes.networks.learned_range import learned_range_variance

TABLE = linear_betas(20, 1e-3, 0.3)


class Told(nn.Module):
    """A network of one input channel that answers noise 0 and the range ``v``, pixel by pixel."""

    def __init__(self, v: Tensor, config: UNetConfig) -> None:
        super().__init__()
        self.config, self.v = config, v
        self.conv_in = nn.Conv2d(1, 1, 1, dtype=torch.float64)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(x), self.v.expand_as(x)], dim=1)


def papers_variance(betas: Tensor, i: int, v: Tensor) -> Tensor:
    """Nichol & Dhariwal, eq. 15, with the first entry of the lower bound replaced by the next."""
    alpha_bar = torch.cumprod(1 - betas, 0)
    previous = torch.cat([torch.ones(1).double(), alpha_bar[:-1]])
    lower = betas * (1 - previous) / (1 - alpha_bar)
    lower[0] = lower[1]
    share = (v + 1) / 2
    return torch.exp(share * betas[i].log() + (1 - share) * lower[i].log())


@pytest.mark.parametrize("prediction", NAMES)
def test_single_steps_have_the_papers_variance(prediction: str) -> None:
    v = torch.rand(1, 1, 4, 8, generator=torch.Generator().manual_seed(0)).double() * 2 - 1
    levels = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    config = UNetConfig(in_channels=1, out_channels=2, block_out_channels=(8,), **levels)
    net = Told(v, config)
    denoiser = NetworkDenoiser(net, TABLE, Parametrisation(prediction), 0.3, 0.7, head="range")
    process = Process(TABLE, center=0.3, scale=0.7)
    betas = torch.tensor(TABLE.betas, dtype=torch.float64)
    for i in range(TABLE.steps):
        t, s = TABLE.time_of_index(i), TABLE.time_of_index(i - 1)
        x_t = NoiseSource([i]).normal((1, 4, 8), torch.float64)
        denoised = process.denoise(denoiser, x_t, t)
        answer = reverse_variance(process, denoiser, denoised, t, s, "learned")
        expected = papers_variance(betas, i, v)
        torch.testing.assert_close(answer, expected, rtol=1e-9, atol=0)


def test_the_bounds_say_all_and_nothing() -> None:
    t = TABLE.time_of_index(torch.tensor([0, 1, 7, 19]))
    nothing = torch.ones(4, 1, 1, 1, dtype=torch.float64)
    variance = TABLE.sigma(t) ** 2
    torch.testing.assert_close(learned_range_variance(nothing, TABLE, t).flatten(), variance)
    known = learned_range_variance(-nothing, TABLE, t).flatten()
    assert bool((known > 0).all())
    assert bool((known[1:] < 2e-4 * variance[1:]).all())  # the first step keeps beta~_1
    assert torch.equal(learned_range_variance(-9 * nothing, TABLE, t).flatten(), known)


def test_between_entries_the_share_is_that_of_the_nearest() -> None:
    v = torch.zeros(3, 1, 1, 1, dtype=torch.float64)
    t = TABLE.time_of_index(torch.tensor([3.8, 4.0, -0.5]))
    share = learned_range_variance(v, TABLE, t).flatten() / TABLE.sigma(t) ** 2
    torch.testing.assert_close(share[0], share[1])
    first = learned_range_variance(v[:1], TABLE, TABLE.time_of_index(torch.zeros(1)))
    torch.testing.assert_close(share[2], first.squeeze() / TABLE.betas[0])


def test_a_table_of_one_step() -> None:
    one, t = DiscreteBetas((0.3,)), torch.ones(1)
    v = torch.tensor([-1.0, 1.0]).double().reshape(1, 1, 1, 2)
    torch.testing.assert_close(learned_range_variance(v, one, t), 0.3 + 0 * v)


def test_which_heads_fit(make_denoiser: Callable[..., NetworkDenoiser]) -> None:
    single, double = (make_denoiser(out_channels=n).net for n in (1, 2))
    noise = Parametrisation("noise")
    assert NetworkDenoiser(single, TABLE, noise).head is None
    assert NetworkDenoiser(double, TABLE, noise).head == "residual"
    assert NetworkDenoiser(double, TABLE, noise, head="range").head == "range"
    wrong: list[tuple[UNet, object, str, str]] = [
        (single, TABLE, "range", "needs 2 outputs, the network has 1"),
        (double, Cosine(), "range", "'cosine' schedule is none"),
        (double, TABLE, "learned", "give one of residual, range"),
    ]
    for net, schedule, head, named in wrong:
        with pytest.raises(ModelError, match=named):
            NetworkDenoiser(net, schedule, noise, head=head)
