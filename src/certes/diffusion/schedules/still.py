"""What does not diffuse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from certes.diffusion.schedules.base import Schedule, Time, float64
from certes.errors import InputError


@dataclass(frozen=True)
class Still(Schedule):
    r"""No noise at any time: :math:`\alpha = 1, \sigma = 0`.

    For a block that others are given: the condition of a conditional denoising estimator (Batzolis
    et al. 2021, arXiv:2111.13606). Part of a :class:`Multispeed`, seldom alone.
    """

    kind: ClassVar[str] = "still"

    def log_alpha(self, t: Time) -> Tensor:
        """Zero."""
        return torch.zeros_like(float64(t))

    def sigma(self, t: Time) -> Tensor:
        """Zero."""
        return torch.zeros_like(float64(t))

    def dlog_alpha(self, t: Time) -> Tensor:
        """Zero."""
        return torch.zeros_like(float64(t))

    def diffusion_squared(self, t: Time) -> Tensor:
        """Zero."""
        return torch.zeros_like(float64(t))

    def time(self, log_snr: Time) -> Tensor:
        """There is none.

        Raises:
            InputError: always.
        """
        raise InputError(
            "schedule: 'still' has no noise at any time; ask the schedule of a block that diffuses"
        )

    def _invert(self, log_snr: Tensor) -> Tensor:
        return self.time(log_snr)
