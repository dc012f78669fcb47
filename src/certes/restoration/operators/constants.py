"""Constants of an operator, kept in float64 and handed out in the precision of the data."""

from __future__ import annotations

import torch
from torch import Tensor


class Constant:
    """A float64 tensor with a copy for every precision and device that asked for one.

    Args:
        value: any floating or boolean tensor.
    """

    def __init__(self, value: Tensor) -> None:
        self.value: Tensor = value.detach().to("cpu", torch.float64)
        self._copies: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def like(self, x: Tensor) -> Tensor:
        """The constant in the precision and on the device of ``x``."""
        key = (x.dtype, x.device)
        if key not in self._copies:
            # A copy made under inference_mode could not take part in a later backward pass.
            with torch.inference_mode(False):
                self._copies[key] = self.value.to(x.device, x.dtype)
        return self._copies[key]
