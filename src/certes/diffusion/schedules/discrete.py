"""Tables of discrete-time models."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from certes.diffusion.schedules.base import Time, VariancePreserving, float64
from certes.errors import InputError


@dataclass(frozen=True)
class DiscreteBetas(VariancePreserving):
    r"""The table of a discrete-time DDPM (Ho et al. 2020, arXiv:2006.11239), made continuous.

    The 0-based index :math:`i` of the table ("diffused :math:`i + 1` times") is the time
    :math:`t = (i + 1) / T`, where :math:`\alpha^2 = \bar\alpha_i` exactly; :math:`t = 0` is clean.
    Between entries :math:`\log\bar\alpha` is linear: the VP SDE whose :math:`\beta` is constant
    over each step, which unlike linear log-SNR also reaches the clean end.

    Args:
        betas: the :math:`T` variances of the single steps, each in (0, 1).
    """

    kind: ClassVar[str] = "discrete_betas"
    betas: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(float(beta) for beta in self.betas))
        if not self.betas or not all(0 < beta < 1 for beta in self.betas):
            raise InputError("betas: give at least one, each between 0 and 1 (neither included)")

    @property
    def steps(self) -> int:
        """The length :math:`T` of the table."""
        return len(self.betas)

    @cached_property
    def _kept(self) -> dict[torch.device, tuple[Tensor, Tensor]]:
        return {}

    def _tables(self, device: torch.device) -> tuple[Tensor, Tensor]:
        r""":math:`-\log\bar\alpha`, shape (T + 1,), from 0 (clean) upwards, and its increments.

        These are :math:`-\log(1 - \beta_i)`, shape (T,). Both go to every device only once.
        """
        if device not in self._kept:
            rates = -torch.log1p(-torch.tensor(self.betas, dtype=torch.float64))
            depth = torch.cat([rates.new_zeros(1), rates.cumsum(0)])
            self._kept[device] = depth.to(device), rates.to(device)
        return self._kept[device]

    def index(self, t: Time) -> Tensor:
        """The (fractional) 0-based index of a time: what a discrete-time network is told."""
        return float64(t) * self.steps - 1

    def time_of_index(self, index: Time) -> Tensor:
        """The time of a 0-based index of the table."""
        return (float64(index) + 1) / self.steps

    def _segment(self, t: Time) -> tuple[Tensor, Tensor]:
        position = float64(t) * self.steps
        segment = position.floor().clamp(0, self.steps - 1)
        return segment.long(), position - segment

    def log_alpha(self, t: Time) -> Tensor:
        r""":math:`\frac12 \log\bar\alpha`, linear between the entries of the table."""
        k, fraction = self._segment(t)
        depth, rates = self._tables(k.device)
        return -(depth[k] + fraction * rates[k]) / 2

    def dlog_alpha(self, t: Time) -> Tensor:
        r""":math:`-\beta / 2`, constant over each step (the value after a jump belongs to it)."""
        k, _ = self._segment(t)
        _, rates = self._tables(k.device)
        return -rates[k] * (self.steps / 2)

    def _invert(self, log_snr: Tensor) -> Tensor:
        wanted = -torch.nn.functional.logsigmoid(log_snr)
        depth, rates = self._tables(wanted.device)
        k = (torch.searchsorted(depth, wanted, right=True) - 1).clamp(0, self.steps - 1)
        return (k + (wanted - depth[k]) / rates[k]) / self.steps


def linear_betas(
    steps: int = 1000, beta_first: float = 1e-4, beta_last: float = 0.02
) -> DiscreteBetas:
    """DDPM's linear table (Ho et al. 2020): 1000 steps from 1e-4 to 0.02."""
    width = (beta_last - beta_first) / max(steps - 1, 1)
    return DiscreteBetas(tuple(beta_first + i * width for i in range(steps)))
