r"""The error of a trained denoiser, as a covariance: spectrum times per-pixel variance.

.. math:: Cov[x_0 \mid x_t] \approx P = D^{1/2} C\, \mathrm{diag}(S_\sigma)\, C^T D^{1/2}

:math:`D` is the variance that the network predicts for each pixel (or 1), :math:`C^T` the
orthonormal cosine transform, and :math:`S_\sigma` the mean squared cosine coefficient of the
residual :math:`D^{-1/2} (x_0 - \hat x_0)`, measured once for every noise level on training patches.
Errors of a denoiser are strongly correlated between pixels; a multiple of the identity in place of
:math:`P` is wrong by more than the posterior's own width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.bases import CosineBasis
from certes.diffusion.covariance import Covariance
from certes.errors import ModelError


class SpectralCovariance(Covariance):
    """``D^(1/2) C diag(S) C^T D^(1/2)``.

    Args:
        spectrum: ``S``, broadcastable to the pictures' cosine coefficients.
        deviation: ``D^(1/2)``, broadcastable to the pictures.
    """

    def __init__(
        self, spectrum: Float[Tensor, "b c h w"], deviation: Float[Tensor, "b c h w"]
    ) -> None:
        self.spectrum = spectrum
        self.deviation = deviation
        self.basis = CosineBasis()

    def apply(self, v: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        coefficients = self.basis.forward(v * self.deviation)
        return self.basis.inverse(coefficients * self.spectrum) * self.deviation

    def diagonal(self) -> Float[Tensor, "b c h w"]:
        """``D`` times the mean of ``S``: exact up to the cosines' ripple at the picture's edges."""
        return self.deviation**2 * self.spectrum.mean(dim=(-2, -1), keepdim=True)


@dataclass(frozen=True)
class ResidualSpectrum:
    """``S`` on a grid of noise levels and frequencies, for pictures of any size.

    Args:
        levels: noise levels, increasing, image units, shape (L,).
        spectra: mean squared cosine coefficients of the residual, shape (L, C, s, s): of the
            residual over its predicted deviation where the model predicts one, else in image units.

    Raises:
        ModelError: if the shapes do not fit, or a number is not positive.
    """

    levels: Float[Tensor, " l"]
    spectra: Float[Tensor, "l c s s"]

    def __post_init__(self) -> None:
        fits = self.spectra.ndim == 4 and self.levels.shape == self.spectra.shape[:1]
        if not fits or len(self.levels) < 2 or not bool((self.spectra > 0).all()):
            raise ModelError(
                f"levels, spectra: shapes {tuple(self.levels.shape)}, {tuple(self.spectra.shape)}; "
                "give (L,) and (L, C, s, s) with L > 1, every number positive"
            )

    def at(self, sigma: Float[Tensor, " b"], size: tuple[int, int]) -> Float[Tensor, "b c h w"]:
        """``S`` for noise levels ``sigma`` (clamped to the measured range) and a picture size.

        The coefficients of a stationary field sample its power spectrum whatever their number, so
        other sizes read the same curve. It is read cell by cell (at ``(k + 1/2) / n``): that keeps
        the mean, hence the variance of a pixel; reading at ``k / n`` would lose up to a sixth.
        """
        levels = self.levels.to(sigma).log()
        position = sigma.log().clamp(levels[0], levels[-1])
        upper = torch.searchsorted(levels, position).clamp(1, len(levels) - 1)
        share = (position - levels[upper - 1]) / (levels[upper] - levels[upper - 1])
        table = self.spectra.to(sigma).log()
        share = share[:, None, None, None]
        logs = (1 - share) * table[upper - 1] + share * table[upper]
        if logs.shape[-2:] != size:
            logs = F.interpolate(logs, size=size, mode="bilinear", align_corners=False)
        return logs.exp()
