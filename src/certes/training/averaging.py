"""Exponential moving average of the weights, the ones that are used."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

_torch = cast(Any, torch)  # torch publishes no types for operations on lists of tensors


class WeightAverage:
    """``ema <- d ema + (1 - d) weights``.

    Args:
        net: the network; its weights are copied.
        decay: the final ``d``.
        ramp: whether ``d`` grows to it, so that early weights are forgotten.
    """

    def __init__(self, net: nn.Module, decay: float, ramp: bool = True) -> None:
        self.decay = decay
        self.ramp = ramp
        self.weights: dict[str, Tensor] = {
            name: value.detach().clone() for name, value in net.state_dict().items()
        }

    def rate(self, step: int) -> float:
        """``d`` after ``step`` steps: with a ramp ``min(decay, (1 + step) / (10 + step))``."""
        return min(self.decay, (1 + step) / (10 + step)) if self.ramp else self.decay

    @torch.no_grad()
    def update(self, net: nn.Module, step: int) -> None:
        """Take in the weights after step number ``step``."""
        state = net.state_dict()
        # One call for all weights: on a GPU a call for each would cost more than the arithmetic.
        averages, latest = list(self.weights.values()), [state[name] for name in self.weights]
        _torch._foreach_lerp_(averages, latest, 1 - self.rate(step))
