"""Adam on the weights as they lie in memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn


class Adam(torch.optim.Adam):
    """The same steps as torch's; convolutions' weights, channels-last, need no copies.

    Of weights that are not contiguous the fused kernel for a CPU first copies all it works on.

    Args:
        parameters: what is trained.
        lr: the learning rate.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float) -> None:
        self.owners = list(parameters)
        stored = [_as_stored(value.detach()).requires_grad_() for value in self.owners]
        super().__init__(stored, lr=lr, fused=True)

    def step(self, closure: None = None) -> None:  # pyright: ignore
        """Move the weights by the gradients of their owners."""
        for stored, owner in zip(self.param_groups[0]["params"], self.owners, strict=True):
            stored.grad = None if owner.grad is None else _as_stored(owner.grad)
        cast(Any, super()).step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        super().zero_grad(set_to_none)
        for owner in self.owners:
            owner.grad = None


def _as_stored(value: Tensor) -> Tensor:
    return value.permute(0, 2, 3, 1) if value.ndim == 4 else value
