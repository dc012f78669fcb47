"""The cosine schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from certes.diffusion.schedules.base import Time, VariancePreserving, float64
from certes.errors import InputError


@dataclass(frozen=True)
class Cosine(VariancePreserving):
    r"""The continuous cosine schedule :math:`\alpha = \cos u(t), \sigma = \sin u(t)`.

    In Nichol & Dhariwal (2021, arXiv:2102.09672) :math:`u` runs from 0 to :math:`\pi / 2`, at both
    of which the log-SNR :math:`-2 \log\tan u` is infinite. Here it runs linearly between the two
    angles at which the log-SNR is ``log_snr_max`` and ``log_snr_min`` (Hoogeboom et al. 2023,
    arXiv:2301.11093): the schedule is cut short rather than clipped, hence smooth and invertible.
    At the defaults the angles are within 5e-5 of the ends.
    """

    kind: ClassVar[str] = "cosine"
    log_snr_min: float = -20.0
    log_snr_max: float = 20.0

    def __post_init__(self) -> None:
        if not self.log_snr_min < self.log_snr_max:
            raise InputError(
                f"log_snr_min, log_snr_max: {self.log_snr_min}, {self.log_snr_max}; "
                "give log_snr_min < log_snr_max"
            )

    @property
    def _first(self) -> float:
        return math.atan(math.exp(-self.log_snr_max / 2))

    @property
    def _span(self) -> float:
        return math.atan(math.exp(-self.log_snr_min / 2)) - self._first

    def _angle(self, t: Time) -> Tensor:
        return self._first + float64(t) * self._span

    def log_alpha(self, t: Time) -> Tensor:
        r""":math:`\log\cos u(t)`."""
        return self._angle(t).cos().log()

    def sigma(self, t: Time) -> Tensor:
        r""":math:`\sin u(t)`."""
        return self._angle(t).sin()

    def dlog_alpha(self, t: Time) -> Tensor:
        r""":math:`-u' \tan u(t)`."""
        return -self._span * self._angle(t).tan()

    def _invert(self, log_snr: Tensor) -> Tensor:
        return (torch.atan(torch.exp(-log_snr / 2)) - self._first) / self._span
