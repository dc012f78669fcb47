"""Constants of an operator, handed out in the precision and on the device of the data."""

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


class Placed:
    """A tensor of any type, handed out on the device of the data.

    Args:
        value: positions, signs or marks.
    """

    def __init__(self, value: Tensor) -> None:
        self._copies = {torch.device("cpu"): value.cpu()}

    def beside(self, x: Tensor) -> Tensor:
        """The tensor on the device of ``x``."""
        if x.device not in self._copies:
            with torch.inference_mode(False):
                self._copies[x.device] = self._copies[torch.device("cpu")].to(x.device)
        return self._copies[x.device]
