r"""Gaussian pictures, for which everything is known in closed form.

With :math:`x_0 \sim N(\mu, \Sigma)` and :math:`\Sigma = Q \Lambda Q^T`, every noise level
shares the eigenvectors :math:`Q`, so that one decomposition serves them all.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.covariance import Covariance
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.problems.linear import LinearMap, as_matrix, condition, eigh, log_normal
from certes.errors import InputError

Picture = Float[Tensor, "b c h w"]

_ROUNDING = 10  # units of rounding, per row, by which a covariance may miss being one


class SpectralCovariance(Covariance):
    r""":math:`P = Q\, \mathrm{diag}(p)\, Q^T`, with one spectrum for each picture.

    Args:
        eigenvectors: :math:`Q`, float64, rows in the pixel order of a flattened picture.
        spectrum: :math:`p`, float64, image units squared.
        shape: (c, h, w) of a picture.
    """

    def __init__(
        self,
        eigenvectors: Float[Tensor, "n n"],
        spectrum: Float[Tensor, "b n"],
        shape: tuple[int, int, int],
    ) -> None:
        self.eigenvectors = eigenvectors
        self.spectrum = spectrum
        self.shape = shape

    def apply(self, v: Picture) -> Picture:
        """``P v``, in the precision of ``v``."""
        coefficients = v.flatten(1).to(self.spectrum) @ self.eigenvectors
        product = (coefficients * self.spectrum) @ self.eigenvectors.T
        return product.to(v).reshape(v.shape)

    def diagonal(self) -> Picture:
        """The variance of every pixel, float64."""
        return (self.spectrum @ self.eigenvectors.T**2).reshape(-1, *self.shape)


class GaussianProblem:
    r"""Pictures drawn from :math:`N(\mu, \Sigma)`: exact denoiser, posterior and likelihood.

    Arithmetic is float64; answers come in the precision of the question.

    Args:
        mean: :math:`\mu`, shape (C, H, W), image units.
        covariance: :math:`\Sigma`, shape (n, n), n = C H W, image units squared, symmetric and
            positive semi-definite.

    Raises:
        InputError: if the shapes do not fit or the matrix is no covariance.
    """

    def __init__(self, mean: Float[Tensor, "c h w"], covariance: Float[Tensor, "n n"]) -> None:
        _check_shapes(mean, covariance)
        self.mean = mean.double()
        self.covariance = covariance.to(self.mean)
        eigenvalues, self.eigenvectors = eigh(self.covariance)
        _check_covariance(covariance, eigenvalues)
        self.eigenvalues = eigenvalues.clamp(min=0)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of a picture."""
        c, h, w = self.mean.shape
        return c, h, w

    def denoiser(self) -> GaussianDenoiser:
        r"""The exact :math:`E[x_0 | x_0 + \sigma e]`, with its covariance."""
        return GaussianDenoiser(self)

    def sample(self, n: int, seed: int) -> Picture:
        """``n`` pictures, float64, shape (n, C, H, W)."""
        generator = torch.Generator().manual_seed(seed)
        e = torch.randn(n, self.mean.numel(), generator=generator, dtype=torch.float64)
        return self.from_spectrum(e.to(self.mean) * self.eigenvalues.sqrt())

    def spectrum_of(self, x: Picture) -> Float[Tensor, "b n"]:
        r""":math:`Q^T (x - \mu)`, float64."""
        return (x.to(self.mean) - self.mean).flatten(1) @ self.eigenvectors

    def from_spectrum(self, coefficients: Float[Tensor, "b n"]) -> Picture:
        r""":math:`\mu + Q z`, float64."""
        return self.mean + (coefficients @ self.eigenvectors.T).reshape(-1, *self.shape)

    def log_likelihood(self, x: Picture, sigma: float | Tensor = 0.0) -> Float[Tensor, " b"]:
        r"""The log density, in nats, of ``x`` under :math:`N(\mu, \Sigma + \sigma^2 I)`.

        Args:
            x: pictures, clean or with noise of standard deviation ``sigma``.
            sigma: one number, or one for each picture, image units.
        """
        variance = self.eigenvalues + noise_variance(sigma, self.mean)
        return log_normal(self.spectrum_of(x), variance).to(x)

    def posterior(
        self, y: Float[Tensor, " b *m"], H: LinearMap, noise: float
    ) -> tuple[Picture, Float[Tensor, "n n"]]:
        r"""The exact posterior of :math:`x_0` given :math:`y = H x_0 + \text{noise} \cdot e`.

        Args:
            y: measurements.
            H: a linear operator on pictures.
            noise: the standard deviation of the measurement noise, 0 included.

        Returns:
            The means (B, C, H, W), and the covariance (n, n) that all measurements share.
        """
        matrix = as_matrix(H, self.shape, self.mean)
        flat = y.to(self.mean).flatten(1)
        known = condition(self.mean.flatten(), self.covariance, matrix, flat, noise)
        return known.mean.to(y).reshape(-1, *self.shape), known.covariance.to(y)


class GaussianDenoiser(Denoiser):
    """The exact denoiser of a :class:`GaussianProblem`: a Wiener filter."""

    def __init__(self, problem: GaussianProblem) -> None:
        self.problem = problem

    def __call__(self, x: Picture, sigma: Float[Tensor, " b"]) -> Denoised:
        r""":math:`\mu + Q \frac{\Lambda}{\Lambda + \sigma^2} Q^T (x - \mu)`."""
        eigenvalues = self.problem.eigenvalues
        shrink = eigenvalues / (eigenvalues + noise_variance(sigma, eigenvalues))
        mean = self.problem.from_spectrum(shrink * self.problem.spectrum_of(x))
        return Denoised(mean.to(x), self._error(sigma).diagonal().to(x))

    def covariance(self, denoised: Denoised, sigma: Float[Tensor, " b"]) -> Covariance:
        r""":math:`Q \frac{\Lambda \sigma^2}{\Lambda + \sigma^2} Q^T`, whatever the answer was."""
        return self._error(sigma)

    def _error(self, sigma: Float[Tensor, " b"]) -> SpectralCovariance:
        eigenvalues = self.problem.eigenvalues
        variance = noise_variance(sigma, eigenvalues)
        spectrum = eigenvalues * variance / (eigenvalues + variance)
        return SpectralCovariance(self.problem.eigenvectors, spectrum, self.problem.shape)


def noise_variance(sigma: float | Tensor, like: Tensor) -> Float[Tensor, "b 1"]:
    """``sigma`` squared as a column, one row for each picture or a single one."""
    return torch.as_tensor(sigma, dtype=like.dtype, device=like.device).reshape(-1, 1) ** 2


def _check_shapes(mean: Tensor, covariance: Tensor) -> None:
    if mean.ndim != 3 or covariance.shape != (mean.numel(), mean.numel()):
        raise InputError(
            f"mean, covariance: shapes {tuple(mean.shape)}, {tuple(covariance.shape)}; "
            "give (C, H, W) and (n, n) with n = C*H*W"
        )


def _check_covariance(covariance: Float[Tensor, "n n"], eigenvalues: Float[Tensor, " n"]) -> None:
    asymmetry, smallest = float((covariance - covariance.T).abs().max()), float(eigenvalues[0])
    unit = torch.finfo(covariance.dtype).eps * float(eigenvalues[-1])
    if max(asymmetry, -smallest) > _ROUNDING * len(covariance) * unit:
        raise InputError(
            f"covariance: asymmetry {asymmetry:.3g}, smallest eigenvalue {smallest:.3g}; "
            "give a symmetric positive semi-definite matrix"
        )
