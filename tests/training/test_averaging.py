from __future__ import annotations

import pytest
import torch
from torch import nn

from certes.training.averaging import WeightAverage


def test_average_is_the_formula() -> None:
    """The recursion, unrolled: weights w_k count (1 - d_k) times every later d."""
    net = nn.Linear(3, 2).double()
    average = WeightAverage(net, decay=0.6)
    history = [net.weight.detach().clone()]
    for step in range(1, 30):
        with torch.no_grad():
            net.weight.add_(torch.randn(2, 3, dtype=torch.float64))
        history.append(net.weight.detach().clone())
        average.update(net, step)
    rates = [0.0] + [min(0.6, (1 + k) / (10 + k)) for k in range(1, 30)]
    expected = torch.zeros(2, 3, dtype=torch.float64)
    for k, weights in enumerate(history):
        share = 1 - rates[k]
        for later in rates[k + 1 :]:
            share *= later
        expected += share * weights
    torch.testing.assert_close(average.weights["weight"], expected)


def test_the_first_weights_are_forgotten() -> None:
    net = nn.Linear(1, 1)
    average = WeightAverage(net, decay=0.9999)
    nn.init.constant_(net.weight, 1e6)
    average.weights["weight"].fill_(1e6)
    nn.init.zeros_(net.weight)
    for step in range(1, 101):
        average.update(net, step)
    assert average.weights["weight"].abs() < 1e-2  # at .9999 from the start it would be 990000
    assert average.rate(10**6) == pytest.approx(0.9999)


def test_without_a_ramp_the_first_weights_count_in_full() -> None:
    """As in DDPM: d from the first step on, starting at the initial weights."""
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 1.0)
    average = WeightAverage(net, decay=0.9, ramp=False)
    nn.init.zeros_(net.weight)
    for step in range(1, 11):
        average.update(net, step)
    assert float(average.weights["weight"]) == pytest.approx(0.9**10, rel=1e-5)


def test_average_is_a_copy() -> None:
    net = nn.Linear(2, 2)
    average = WeightAverage(net, decay=0.5)
    before = average.weights["bias"].clone()
    nn.init.constant_(net.bias, 3.0)
    torch.testing.assert_close(average.weights["bias"], before)
