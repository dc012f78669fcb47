"""Adam on stored order takes the steps that it would take on the weights themselves."""

from __future__ import annotations

import copy

import torch
from torch import nn

from certes.training.adam import Adam


def make_net() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Flatten(), nn.Linear(8 * 16, 5))
    return net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def test_steps_are_those_of_torch() -> None:
    ours = make_net()
    theirs = copy.deepcopy(ours).double()
    optimiser = Adam(ours.parameters(), 0.02)
    oracle = torch.optim.Adam(theirs.parameters(), lr=0.02)
    for step in range(5):
        x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(step))
        for net, adam in ((ours, optimiser), (theirs, oracle)):
            adam.zero_grad()
            assert all(value.grad is None for value in net.parameters())
            net(x.to(next(net.parameters()))).square().sum().backward()
            adam.step()
    for value, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-5)


def test_works_on_contiguous_memory() -> None:
    optimiser = Adam(make_net().parameters(), 0.1)
    assert all(value.is_contiguous() for value in optimiser.param_groups[0]["params"])
