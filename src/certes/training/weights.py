r"""What each picture counts in the simple objective.

A weight that depends on :math:`x_t` and :math:`t` alone leaves every minimiser
:math:`E[x_0 | x_t]` where it is; it decides what a network that cannot have them all spends itself
on.

* ``uniform``: 1 (Ho et al. 2020, eq. 14).
* ``picture``: :math:`\bar v(x_t)^{-1/2}`, from the size of its error that the network predicts for
  the whole picture, relative to the mean over the whole batch, over all processes; without it dark
  pictures, whose errors are small, are hardly learned.
* ``level``: :math:`1 / E[\text{error} | t]`, the optimum of the learned uncertainty of Karras et
  al. (2024, arXiv:2312.02696, eq. 21-22); here from running means instead of a network.
* ``min-snr``: :math:`\min(SNR, 5)` on the error of :math:`x_0` (Hang et al. 2023,
  arXiv:2303.09556).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from certes.errors import InputError
from certes.networks.denoiser import NetworkDenoiser
from certes.training.config import WeightsName
from certes.training.levels import LevelMoments
from certes.training.processes import mean_of_all

Scalars = Float[Tensor, " b"]

MIN_SNR_GAMMA = 5.0
_STRATA = 100


class Weights:
    """The weights of a step's pictures.

    Args:
        denoiser: knows the schedule and what the errors are errors of.
        how: ``uniform``, ``picture``, ``level`` or ``min-snr``.
        device: where they are computed.

    Raises:
        InputError: for ``picture`` with a network that does not predict its errors.
    """

    def __init__(self, denoiser: NetworkDenoiser, how: WeightsName, device: torch.device) -> None:
        if how == "picture" and denoiser.head != "residual":
            raise InputError(
                "weights: 'picture' needs the log-variances of a 'residual' head (twice as many "
                "outputs as channels); give 'uniform', 'level' or 'min-snr'"
            )
        self.denoiser, self.how = denoiser, how
        self.moments = LevelMoments(_STRATA, device) if how == "level" else None

    def __call__(
        self, t: Scalars, error_variance: Float[Tensor, "b c h w"] | None
    ) -> Scalars | float:
        """The weights.

        Args:
            t: times, float64.
            error_variance: what the network says of its errors.
        """
        if self.how == "picture" and error_variance is not None:
            weight = error_variance.detach().mean(dim=(1, 2, 3)).rsqrt()
            return weight / mean_of_all(weight.mean())
        if self.moments is not None:
            return 1 / self._expected(self.moments, t)
        return min_snr(self.denoiser, t) if self.how == "min-snr" else 1.0

    def _expected(self, moments: LevelMoments, t: Scalars) -> Scalars:
        k = moments.stratum(t)
        seen = (moments.visits[k] > 0) & (moments.mean[k] > 0)
        return torch.where(seen, moments.mean[k], torch.ones_like(t))

    def update(self, t: Scalars, squared: Scalars) -> None:
        """Learn from the squared errors of a step."""
        if self.moments is not None:
            self.moments.update(t, squared)


def min_snr(denoiser: NetworkDenoiser, t: Scalars, gamma: float = MIN_SNR_GAMMA) -> Scalars:
    r""":math:`\min(SNR, \gamma)` on errors of :math:`x_0`, as a weight on those of the target."""
    _, b = denoiser.parametrisation.coefficients(denoiser.schedule, t)
    return denoiser.schedule.log_snr(t).exp().clamp(max=gamma) / b**2
