"""What every schedule offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from torch import Tensor

from certes.errors import InputError

_SLACK = 1e-9  # how far rounding may carry an inverted time out of [0, 1]

Time = Tensor | float


def float64(value: Time) -> Tensor:
    """Times as a tensor."""
    return torch.as_tensor(value, dtype=torch.float64)


class Schedule(ABC):
    """Signal and noise scales over ``t`` in [0, 1]; tensors of any shape in, the same shape out."""

    kind: ClassVar[str]

    @abstractmethod
    def log_alpha(self, t: Time) -> Tensor:
        r""":math:`\log\alpha(t)`."""

    @abstractmethod
    def sigma(self, t: Time) -> Tensor:
        r"""The noise scale :math:`\sigma(t)`, in the units of :math:`x_0`."""

    @abstractmethod
    def dlog_alpha(self, t: Time) -> Tensor:
        r"""The drift :math:`f(t) = d\log\alpha / dt`."""

    @abstractmethod
    def diffusion_squared(self, t: Time) -> Tensor:
        r""":math:`g(t)^2 = -\sigma^2 \, d\lambda/dt`, with :math:`\lambda` the log-SNR."""

    @abstractmethod
    def _invert(self, log_snr: Tensor) -> Tensor:
        """The time of a log-SNR, not checked against the ends of the schedule."""

    def alpha(self, t: Time) -> Tensor:
        r"""The signal scale :math:`\alpha(t)`."""
        return self.log_alpha(t).exp()

    def log_snr(self, t: Time) -> Tensor:
        r""":math:`\lambda(t) = 2 \log(\alpha / \sigma)`, infinite where there is no noise."""
        return 2 * (self.log_alpha(t) - self.sigma(t).log())

    def noise_level(self, t: Time) -> Tensor:
        r""":math:`\sigma(t) / \alpha(t)`: the noise of the same process divided by its signal."""
        return self.sigma(t) / self.alpha(t)

    def time(self, log_snr: Time) -> Tensor:
        """The time at which the log-SNR is ``log_snr``.

        Raises:
            InputError: if the schedule never reaches such a log-SNR.
        """
        t = self._invert(float64(log_snr))
        if not bool(((t >= -_SLACK) & (t <= 1 + _SLACK)).all()):
            low, high = float(self.log_snr(1.0)), float(self.log_snr(0.0))
            raise InputError(
                f"log_snr: outside the {self.kind!r} schedule, whose log-SNR runs from {low:.4g} "
                f"to {high:.4g}; clip it, or widen the schedule"
            )
        return t.clamp(0, 1)

    def to_config(self) -> dict[str, Any]:
        """A JSON-able description that :func:`schedule_from_config` understands."""
        # Every concrete schedule is a dataclass of plain numbers.
        return {"kind": self.kind, **asdict(self)}  # pyright: ignore[reportCallIssue, reportArgumentType]


class VariancePreserving(Schedule):
    r"""Schedules with :math:`\alpha^2 + \sigma^2 = 1`, for which :math:`g^2 = \beta = -2 f`."""

    def sigma(self, t: Time) -> Tensor:
        r""":math:`\sqrt{1 - \alpha^2}`, without cancellation near the clean end."""
        return torch.expm1(2 * self.log_alpha(t)).neg().sqrt()

    def diffusion_squared(self, t: Time) -> Tensor:
        r""":math:`g^2 = \beta(t)`."""
        return -2 * self.dlog_alpha(t)
