"""What is minimised: its minimisers are the conditional mean and the variance about it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from certes.diffusion.schedules import schedule_from_config
from certes.errors import InputError
from certes.training.bound import VariationalBound
from certes.training.noising import NoisyBatch, noisy_batch
from certes.training.objectives import LIKELIHOOD_WEIGHT, Losses, Objective
from certes.training.times import Drawn, TimeSampler
from certes.training.unconditional import Unconditional

from .conftest import generator, plain, shrunk, tabled

CPU = torch.device("cpu")


def batch_of(target: Tensor, t: float = 0.5) -> NoisyBatch:
    """Pictures whose targets are these; the rest of a batch plays no part in L_simple."""
    times = torch.full((len(target),), t, dtype=torch.float64)
    return NoisyBatch(target, target, target, times, times, torch.ones_like(times))


def losses(output: Tensor, target: Tensor, **changes: Any) -> Losses:
    config = shrunk(**changes)
    return Objective(Unconditional(config).build(), config, CPU)(output, batch_of(target))


def test_noisy_batch_is_the_process() -> None:
    config = shrunk()
    denoiser = Unconditional(config).build()
    x0 = torch.rand(512, 1, 8, 8, generator=generator(9))
    drawn = TimeSampler(denoiser.schedule, "stratified", CPU).draw(512, generator())
    batch = noisy_batch(denoiser, x0, drawn, generator(1))
    schedule, t = schedule_from_config(config.schedule), drawn.t
    torch.testing.assert_close(batch.conditioning, (1000 * t).float())
    alpha, sigma = (f(t)[:, None, None, None] for f in (schedule.alpha, schedule.sigma))
    # The target is v = alpha e - sigma z_0, so alpha x_t - sigma v = z_0 and the rest is noise.
    z0 = (x0.double() - config.center) / config.scale
    read = (alpha * batch.x_t - sigma * batch.target) / (alpha**2 + sigma**2)
    torch.testing.assert_close(read, z0, atol=1e-5, rtol=0)
    torch.testing.assert_close(batch.z0.double(), z0, atol=1e-5, rtol=0)
    e = sigma * batch.x_t + alpha * batch.target
    assert e.mean().abs() < 0.03
    assert e.std() == pytest.approx(1, abs=0.02)
    again = noisy_batch(denoiser, x0, drawn, generator(1))
    assert torch.equal(again.x_t, batch.x_t)
    part = batch.of(slice(1, None, 2))
    assert torch.equal(part.x_t, batch.x_t[1::2])
    assert torch.equal(part.weight, drawn.weight[1::2])


def test_without_a_variance_it_is_the_simple_objective() -> None:
    output, target = torch.randn(2, 5, 1, 4, 4, generator=generator())
    loss = losses(output, target, **plain())
    expected = ((output - target) ** 2).mean(dim=(1, 2, 3))
    torch.testing.assert_close(loss.each, expected)
    torch.testing.assert_close(loss.simple, expected)
    assert not loss.variance.any()


def gradients(output: Tensor, target: Tensor, **changes: Any) -> tuple[Tensor, Tensor]:
    """Of the batch's mean loss, with respect to the mean and to the log-variance."""
    leaf = output.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(losses(leaf, target, **changes).each.mean(), leaf)
    return gradient[:, : target.shape[1]], gradient[:, target.shape[1] :]


def test_variance_targets_do_not_move_the_mean() -> None:
    """The mean's gradient is a squared error's, times one positive number for each picture."""
    output = torch.randn(4, 2, 6, 6, generator=generator(), dtype=torch.float64)
    target = torch.randn(4, 1, 6, 6, generator=generator(1), dtype=torch.float64)
    mean_gradient, variance_gradient = gradients(output, target)
    weight = output[:, 1:].exp().mean(dim=(1, 2, 3)).rsqrt()
    weight = (weight / weight.mean())[:, None, None, None]
    simple = 2 * (output[:, :1] - target) / target.numel()
    torch.testing.assert_close(mean_gradient, (weight * simple).float().double())
    squared, log_variance = (output[:, :1] - target) ** 2, output[:, 1:]
    likelihood = (1 - squared / log_variance.exp()) / 2 / target.numel()
    torch.testing.assert_close(
        variance_gradient, (LIKELIHOOD_WEIGHT * likelihood).float().double(), rtol=1e-5, atol=1e-7
    )


TARGETS = torch.tensor([0.0, 0.0, 3.0]).reshape(3, 1, 1, 1).expand(3, 1, 4, 4)


@pytest.mark.parametrize("weights", ["picture", "uniform", "level", "min-snr"])
def test_the_minimiser_is_the_conditional_mean(weights: str) -> None:
    """One x_t, three possible pictures: a network, whose answer is one, must rest at their mean."""
    output = torch.tensor([TARGETS.mean().item(), -0.7])[None, :, None, None].expand(3, 2, 4, 4)
    gradient, _ = gradients(output, TARGETS, weights=weights)
    torch.testing.assert_close(gradient.sum(dim=0), torch.zeros(1, 4, 4))
    gradient, _ = gradients(output + 0.1, TARGETS, weights=weights)
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
    config = shrunk()
    objective = Objective(Unconditional(config).build(), config, CPU)
    net = nn.Sequential(nn.Conv2d(1, 16, 1), nn.Tanh(), nn.Conv2d(16, 2, 1))
    for i, value in enumerate(net.parameters()):
        nn.init.normal_(value, std=0.5, generator=generator(i))
    optimiser = torch.optim.Adam(net.parameters(), lr=0.02)
    noise = generator(3)
    for _ in range(400):
        x = torch.randint(2, (64, 1, 4, 4), generator=noise).float()
        target = 1 + (0.2 + 0.8 * x) * torch.randn(x.shape, generator=noise)
        optimiser.zero_grad()
        objective(net(x), batch_of(target)).each.mean().backward()
        optimiser.step()
    with torch.no_grad():
        answer = net(torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1))[:, :, 0, 0]
    torch.testing.assert_close(answer[:, 0], torch.ones(2), atol=0.1, rtol=0)
    deviation = (answer[:, 1] / 2).exp()
    torch.testing.assert_close(deviation, torch.tensor([0.2, 1.0]), atol=0, rtol=0.1)


def table_batch(config: Any, count: int = 6) -> tuple[Objective, NoisyBatch]:
    denoiser = Unconditional(config).build()
    x0 = torch.randint(256, (count, 1, 8, 8), generator=generator(4)) / 255
    t = torch.tensor([1, 1, 2, 5, 9, 10], dtype=torch.float64)[:count] / 10
    batch = noisy_batch(denoiser, x0, Drawn(t, torch.ones_like(t)), generator())
    return Objective(denoiser, config, CPU), batch


def test_range_head_is_the_hybrid_objective() -> None:
    """The mean follows L_simple alone, the variance the bound's terms alone."""
    config = tabled(head="range", weights="uniform")
    objective, batch = table_batch(config)
    output = torch.randn(6, 2, 8, 8, generator=generator(2)).requires_grad_()
    loss = objective(output, batch)
    (both,) = torch.autograd.grad(loss.each.sum(), output)
    mean = output.detach()[:, :1].requires_grad_()
    squared = ((mean - batch.target) ** 2).mean(dim=(1, 2, 3))
    (simple,) = torch.autograd.grad(squared.sum(), mean)
    torch.testing.assert_close(both[:, :1], simple)
    prediction, variance = objective.denoiser.split(output, batch.t)
    terms = VariationalBound(objective.denoiser, "large")(batch, prediction, variance)
    torch.testing.assert_close(loss.variance, terms.detach())
    torch.testing.assert_close(loss.each.detach(), (squared + terms).detach())
    (bound,) = torch.autograd.grad(terms.sum(), output)
    torch.testing.assert_close(both[:, 1:], bound[:, 1:])
    assert bound[:, :1].abs().max() > 1e-3  # which the mean was not told


@pytest.mark.parametrize("head", ["residual", "range"])
def test_the_bound_moves_mean_and_variance(head: str) -> None:
    """Table 2's learned diagonal: one objective for both."""
    objective, batch = table_batch(tabled(head=head, objective="bound", weights="uniform"))
    output = torch.zeros(6, 2, 8, 8).requires_grad_()
    loss = objective(output, batch)
    (gradient,) = torch.autograd.grad(loss.each.sum(), output)
    torch.testing.assert_close(loss.each.detach(), loss.variance)
    assert torch.isfinite(gradient).all()
    assert (gradient.abs().flatten(2).amax(dim=2) > 0).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "bound", "weights": "uniform"}, "'cosine' schedule has none"),
        (tabled().to_dict() | {"objective": "bound"}, "weights: 'picture'.*give 'uniform'"),
        (plain() | {"weights": "picture"}, "weights: 'picture' needs"),
        (tabled().to_dict() | {"head": "range"}, "weights: 'picture' needs.*'residual' head"),
    ],
)
def test_what_does_not_go_together(changes: dict[str, Any], message: str) -> None:
    config = replace(shrunk(), **changes)
    with pytest.raises(InputError, match=message):
        Objective(Unconditional(config).build(), config, CPU)
