"""Exponential moving average of the weights, the ones that are used."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WeightAverage:
    """``ema <- d ema + (1 - d) weights`` with ``d`` ramped up so that early weights are forgotten.

    Args:
        net: the network; its weights are copied.
        decay: the final ``d``.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights: dict[str, Tensor] = {
            name: value.detach().clone() for name, value in net.state_dict().items()
        }

    def rate(self, step: int) -> float:
        """``d`` after ``step`` steps: ``min(decay, (1 + step) / (10 + step))``."""
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, net: nn.Module, step: int) -> None:
        """Take in the weights after step number ``step``."""
        rate = self.rate(step)
        for name, value in net.state_dict().items():
            self.weights[name].lerp_(value.to(self.weights[name]), 1 - rate)
