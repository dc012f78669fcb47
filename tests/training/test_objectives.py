"""What is minimised: its minimisers are the conditional mean and the variance about it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from certes.diffusion.schedules import schedule_from_config
from certes.training.loop import build
from certes.training.objectives import LIKELIHOOD_WEIGHT, losses, noisy_batch, stratified_times
from certes.training.presets import TrainingConfig


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_times_are_one_in_each_stratum_in_random_order() -> None:
    t = stratified_times(generator(), 64)
    torch.testing.assert_close((t.sort().values * 64).floor(), torch.arange(64).double())
    assert not torch.equal(t, t.sort().values)
    assert not torch.equal(t, stratified_times(generator(1), 64))


def test_noisy_batch_is_the_process(config: TrainingConfig) -> None:
    denoiser = build(config)
    x0 = torch.rand(512, 1, 8, 8, generator=generator(9))
    x_t, target, time = noisy_batch(denoiser, x0, generator())
    schedule = schedule_from_config(config.schedule)
    t = time.double() / 1000
    torch.testing.assert_close(
        t.sort().values, torch.linspace(0, 1, 512).double(), atol=4e-3, rtol=0
    )
    alpha, sigma = (f(t)[:, None, None, None] for f in (schedule.alpha, schedule.sigma))
    # The target is v = alpha e - sigma z_0, so alpha x_t - sigma v = z_0 and the rest is noise.
    z0 = (x0.double() - config.center) / config.scale
    read = (alpha * x_t - sigma * target) / (alpha**2 + sigma**2)
    torch.testing.assert_close(read, z0, atol=1e-5, rtol=0)
    e = sigma * x_t + alpha * target
    assert e.mean().abs() < 0.03
    assert e.std() == pytest.approx(1, abs=0.02)
    again = noisy_batch(denoiser, x0, generator())
    assert all(torch.equal(a, b) for a, b in zip(again, (x_t, target, time), strict=True))


def test_without_a_variance_it_is_the_simple_objective() -> None:
    output, target = torch.randn(2, 5, 1, 4, 4, generator=generator())
    loss = losses(output, target)
    expected = ((output - target) ** 2).mean()
    assert loss.total == loss.simple == expected
    assert loss.variance == 0


def split(output: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of the total with respect to the mean and to the log-variance."""
    leaf = output.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(losses(leaf, target).total, leaf)
    c = target.shape[1]
    return gradient[:, :c], gradient[:, c:]


def test_variance_targets_do_not_move_the_mean() -> None:
    """The mean's gradient is a squared error's, times one positive number for each picture."""
    output = torch.randn(4, 2, 6, 6, generator=generator(), dtype=torch.float64)
    target = torch.randn(4, 1, 6, 6, generator=generator(1), dtype=torch.float64)
    mean_gradient, variance_gradient = split(output, target)
    weight = output[:, 1:].exp().mean(dim=(1, 2, 3)).rsqrt()
    weight = (weight / weight.mean())[:, None, None, None]
    plain = 2 * (output[:, :1] - target) / target.numel()
    torch.testing.assert_close(mean_gradient, (weight * plain).float().double())
    squared, log_variance = (output[:, :1] - target) ** 2, output[:, 1:]
    likelihood = (1 - squared / log_variance.exp()) / 2 / target.numel()
    torch.testing.assert_close(
        variance_gradient, (LIKELIHOOD_WEIGHT * likelihood).float().double(), rtol=1e-5, atol=1e-7
    )


TARGETS = torch.tensor([0.0, 0.0, 3.0]).reshape(3, 1, 1, 1).expand(3, 1, 4, 4)


def test_the_minimiser_is_the_conditional_mean() -> None:
    """One x_t, three possible pictures: a network, whose answer is one, must rest at their mean."""
    output = torch.tensor([TARGETS.mean().item(), -0.7])[None, :, None, None].expand(3, 2, 4, 4)
    gradient, _ = split(output, TARGETS)
    torch.testing.assert_close(gradient.sum(dim=0), torch.zeros(1, 4, 4))
    gradient, _ = split(output + 0.1, TARGETS)
    assert bool((gradient.sum(dim=0) > 0).all())


def test_weights_that_see_the_target_would_move_it() -> None:
    """Negative control: weighting by the error made, not by the error foreseen."""
    mean = TARGETS.mean().expand(3, 1, 4, 4).clone().requires_grad_()
    squared = ((mean - TARGETS) ** 2).mean(dim=(1, 2, 3))
    (squared.detach().rsqrt() * squared).mean().backward()
    assert mean.grad is not None
    assert mean.grad.sum(dim=0).abs().min() > 1e-2


def test_the_variance_output_learns_the_variance() -> None:
    """Targets whose spread depends on the input: mean 1, standard deviation .2 or 1."""
    net = nn.Sequential(nn.Conv2d(1, 16, 1), nn.Tanh(), nn.Conv2d(16, 2, 1))
    for i, value in enumerate(net.parameters()):
        nn.init.normal_(value, std=0.5, generator=generator(i))
    optimiser = torch.optim.Adam(net.parameters(), lr=0.02)
    noise = generator(3)
    for _ in range(400):
        x = torch.randint(2, (64, 1, 4, 4), generator=noise).float()
        target = 1 + (0.2 + 0.8 * x) * torch.randn(x.shape, generator=noise)
        optimiser.zero_grad()
        losses(net(x), target).total.backward()
        optimiser.step()
    with torch.no_grad():
        answer = net(torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1))[:, :, 0, 0]
    torch.testing.assert_close(answer[:, 0], torch.ones(2), atol=0.1, rtol=0)
    deviation = (answer[:, 1] / 2).exp()
    torch.testing.assert_close(deviation, torch.tensor([0.2, 1.0]), atol=0, rtol=0.1)
