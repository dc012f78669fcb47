"""Schedules that come as differential equations (Song et al. 2021; Karras et al. 2022)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from certes.diffusion.schedules.base import Schedule, Time, VariancePreserving, float64
from certes.errors import InputError


@dataclass(frozen=True)
class VP(VariancePreserving):
    r"""The variance-preserving SDE with linear :math:`\beta(t)` (Song et al. 2021, eq. 32-33).

    Args:
        beta_min: :math:`\beta(0)`.
        beta_max: :math:`\beta(1)`.
    """

    kind: ClassVar[str] = "vp"
    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min <= self.beta_max:
            raise InputError(
                f"beta_min, beta_max: {self.beta_min}, {self.beta_max}; "
                "give 0 < beta_min <= beta_max"
            )

    def log_alpha(self, t: Time) -> Tensor:
        r""":math:`-\frac{t^2}{4}(\beta_{max} - \beta_{min}) - \frac{t}{2}\beta_{min}`."""
        t = float64(t)
        return -t * (t * (self.beta_max - self.beta_min) / 4 + self.beta_min / 2)

    def dlog_alpha(self, t: Time) -> Tensor:
        r""":math:`-\beta(t) / 2`."""
        return -(self.beta_min + float64(t) * (self.beta_max - self.beta_min)) / 2

    def _invert(self, log_snr: Tensor) -> Tensor:
        return self._time_at(torch.nn.functional.logsigmoid(log_snr) / 2)

    def _time_at(self, log_alpha: Tensor) -> Tensor:
        """The positive root of the quadratic :meth:`log_alpha`, written without cancellation."""
        half = self.beta_min / 2
        root = (half**2 - (self.beta_max - self.beta_min) * log_alpha).sqrt()
        return -2 * log_alpha / (half + root)


@dataclass(frozen=True)
class SubVP(VP):
    r"""The sub-VP SDE (Song et al. 2021, eq. 28-29): VP's signal, :math:`\sigma = 1 - \alpha^2`."""

    kind: ClassVar[str] = "sub_vp"

    def sigma(self, t: Time) -> Tensor:
        r""":math:`1 - \alpha^2`."""
        return torch.expm1(2 * self.log_alpha(t)).neg()

    def diffusion_squared(self, t: Time) -> Tensor:
        r""":math:`g^2 = \beta(t) (1 - \alpha^4)`."""
        return 2 * self.dlog_alpha(t) * torch.expm1(4 * self.log_alpha(t))

    def _invert(self, log_snr: Tensor) -> Tensor:
        # alpha / (1 - alpha^2) = e^(lambda / 2) is quadratic in alpha; its root, in logarithms:
        return self._time_at(-torch.asinh(torch.exp(-log_snr / 2) / 2))


@dataclass(frozen=True)
class VE(Schedule):
    r"""The variance-exploding SDE: :math:`\alpha = 1`, geometric :math:`\sigma` (Song et al. 2021).

    Args:
        sigma_min: :math:`\sigma(0)`, in the units of :math:`x_0`.
        sigma_max: :math:`\sigma(1)`.
    """

    kind: ClassVar[str] = "ve"
    sigma_min: float
    sigma_max: float

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise InputError(
                f"sigma_min, sigma_max: {self.sigma_min}, {self.sigma_max}; "
                "give 0 < sigma_min < sigma_max"
            )

    @property
    def _log_ratio(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    def log_alpha(self, t: Time) -> Tensor:
        """Zero."""
        return torch.zeros_like(float64(t))

    def sigma(self, t: Time) -> Tensor:
        r""":math:`\sigma_{min} (\sigma_{max} / \sigma_{min})^t`."""
        return self.sigma_min * torch.exp(float64(t) * self._log_ratio)

    def dlog_alpha(self, t: Time) -> Tensor:
        """Zero."""
        return torch.zeros_like(float64(t))

    def diffusion_squared(self, t: Time) -> Tensor:
        r""":math:`2 \sigma^2 \log(\sigma_{max} / \sigma_{min})`."""
        return 2 * self._log_ratio * self.sigma(t) ** 2

    def _invert(self, log_snr: Tensor) -> Tensor:
        return (-log_snr / 2 - math.log(self.sigma_min)) / self._log_ratio


@dataclass(frozen=True)
class EDM(Schedule):
    r"""Time *is* the noise level: :math:`\alpha = 1, \sigma(t) = t`.

    Karras et al. 2022, arXiv:2206.00364. With it any grid of noise levels
    (:mod:`certes.diffusion.grids`), zero included, is a grid of times.
    The one schedule whose times do not stop at 1.
    """

    kind: ClassVar[str] = "edm"

    def log_alpha(self, t: Time) -> Tensor:
        """Zero."""
        return torch.zeros_like(float64(t))

    def sigma(self, t: Time) -> Tensor:
        """``t``."""
        return float64(t)

    def dlog_alpha(self, t: Time) -> Tensor:
        """Zero."""
        return torch.zeros_like(float64(t))

    def diffusion_squared(self, t: Time) -> Tensor:
        """``2 t``."""
        return 2 * float64(t)

    def time(self, log_snr: Time) -> Tensor:
        """The noise level of a log-SNR, whatever its size."""
        return self._invert(float64(log_snr))

    def _invert(self, log_snr: Tensor) -> Tensor:
        return torch.exp(-log_snr / 2)
