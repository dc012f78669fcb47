"""What each head's loss is least at, and how its answers are read: closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from certes.errors import ModelError
from certes.networks.conditional import Block
from certes.networks.heads import HEADS, Head, Softmax, head_named, pinball

ALPHA = 0.2
X = Block(1, 0.5, 0.1)
MEAN, SIGMA = 0.7, 1.5  # network units
Z = 1.2815515655446004  # of ALPHA / 2


def normal(count: int = 4001) -> Tensor:
    """Values whose empirical law is nearly a normal one: its quantiles at equal steps."""
    levels = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return MEAN + SIGMA * torch.special.ndtri(levels)


def fitted(head: Head, target: Tensor, base: float = 0.0) -> Tensor:
    """The one answer to all that its loss is least at, read: lower end, estimate, upper end."""
    answer = torch.zeros(1, head.outputs, 1, 1, 1, dtype=torch.float64, requires_grad=True)
    bases = torch.full((1, 1, 1, 1), base, dtype=torch.float64)
    optimiser = torch.optim.LBFGS([answer], max_iter=400, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        everywhere = answer.expand(len(target), *answer.shape[1:])
        cost = head.loss(everywhere, bases, target).mean()
        cost.backward()
        return cost

    optimiser.step(closure)
    return head.read(answer.detach(), bases).flatten()


def image(*z: float) -> Tensor:
    return X.center + X.scale * torch.tensor(z, dtype=torch.float64)


WIDTHS = {
    "quantiles": Z * SIGMA,
    "gaussian": SIGMA,
    "magnitude": SIGMA * math.sqrt(2 / math.pi),
    "softmax": Z * SIGMA,
}


@pytest.mark.parametrize("kind", WIDTHS)
@pytest.mark.parametrize("base", [0.0, 2.0])
def test_a_head_learns_the_law_of_what_it_is_shown(kind: str, base: float) -> None:
    head = head_named(kind, ALPHA, X)
    found = fitted(head, normal()[:, None, None, None, None], base)
    expected = image(MEAN - WIDTHS[kind], MEAN, MEAN + WIDTHS[kind])
    # A histogram of 50 bins has a fifth of a network unit for each.
    tolerance = 0.01 if kind == "softmax" else 0.003
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)
    # Negative control: at another alpha the ends are elsewhere, where they depend on it.
    other = fitted(head_named(kind, 0.05, X), normal()[:, None, None, None, None], base)
    moved = float((other[2] - expected[2]).abs())
    assert moved > 5 * tolerance if kind in ("quantiles", "softmax") else moved < tolerance


def test_a_head_of_sampled_bounds_learns_their_means() -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(500, 3, 1, 1, 1, generator=generator, dtype=torch.float64)
    target += torch.tensor([-1.0, 0.0, 2.0]).reshape(3, 1, 1, 1)
    found = fitted(head_named("sampled", ALPHA, X), target, 0.5)
    torch.testing.assert_close(found, image(*target.mean(dim=0).flatten().tolist()))


def test_quantiles_of_a_histogram_lie_straight_between_the_edges() -> None:
    head = Softmax(ALPHA, X)
    answer = torch.full((1, head.outputs, 1, 1, 1), -1e9, dtype=torch.float64)
    answer[0, [10, 20]] = 0.0  # half of all in [.20, .22], half in [.40, .42]
    lower, estimate, upper = head.read(answer, torch.zeros(1, 1, 1, 1)).flatten().tolist()
    assert lower == pytest.approx(0.20 + 0.02 * 0.2)  # .1 of all: a fifth of the bin
    assert upper == pytest.approx(0.40 + 0.02 * 0.8)
    assert estimate == pytest.approx((0.21 + 0.41) / 2)


@pytest.mark.parametrize("kind", HEADS)
def test_gradients_are_finite_far_from_the_truth(kind: str) -> None:
    head = head_named(kind, ALPHA, X)
    for size in (-1e3, 1e3):
        answer = torch.full((1, head.outputs, 1, 2, 2), size, requires_grad=True)
        target = torch.zeros(1, head.targets, 1, 2, 2)
        cost = head.loss(answer, torch.zeros(1, 1, 2, 2), target).sum()
        cost.backward()
        gradient = answer.grad
        assert gradient is not None
        assert bool(gradient.isfinite().all())
        assert bool(head.read(answer.detach(), torch.zeros(1, 1, 2, 2)).isfinite().all())


@pytest.mark.parametrize("level", [0.05, 0.5, 0.95])
def test_the_quantile_loss(level: float) -> None:
    truth = torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64)
    answer = torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64)
    expected = torch.tensor([level, 0.0, 2 * (1 - level)], dtype=torch.float64)
    torch.testing.assert_close(pinball(answer, truth, level), expected)


def test_what_cannot_be() -> None:
    with pytest.raises(ModelError, match="head: 'laplace'; give one of quantiles"):
        head_named("laplace", ALPHA, X)
    with pytest.raises(ModelError, match="alpha: 1"):
        head_named("gaussian", 1.0, X)
