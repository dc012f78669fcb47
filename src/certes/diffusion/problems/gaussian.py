r"""Gaussian pictures, for which everything is known in closed form.

With :math:`x_0 \sim N(\mu, \Sigma)` and :math:`\Sigma = Q \Lambda Q^T`, every noise level
shares the eigenvectors :math:`Q`, so that one decomposition serves them all.
"""

from __future__ import annotations

from typing import Any, cast

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
        r"""The exact :math:`E[x_0 | x_0 + \sigma e]`, with its covariance.

        It also takes a level for each pixel.
        """
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


class DenseCovariance(Covariance):
    """Any matrix.

    Args:
        matrix: float64, one for each picture or one for all, rows in the pixel order of a flattened
            picture, image units squared.
        shape: (c, h, w) of a picture.
    """

    def __init__(self, matrix: Float[Tensor, "b n n"], shape: tuple[int, int, int]) -> None:
        self.matrix = matrix
        self.shape = shape

    def apply(self, v: Picture) -> Picture:
        """``P v``, in the precision of ``v``."""
        return _rows_times(v.flatten(1).to(self.matrix), self.matrix).to(v).reshape(v.shape)

    def diagonal(self) -> Picture:
        """The variance of every pixel, float64."""
        return self.matrix.diagonal(dim1=-2, dim2=-1).reshape(-1, *self.shape)


class GaussianDenoiser(Denoiser):
    """The exact denoiser of a :class:`GaussianProblem`: a Wiener filter.

    Its noise levels are one for each picture, shape (b,), or one for each pixel, any shape that
    broadcasts to (b, c, h, w); 0 is a pixel that is known.
    """

    def __init__(self, problem: GaussianProblem) -> None:
        self.problem = problem

    def __call__(self, x: Picture, sigma: Float[Tensor, " b *pixels"]) -> Denoised:
        r""":math:`\mu + Q \frac{\Lambda}{\Lambda + \sigma^2} Q^T (x - \mu)`, or
        :math:`\mu + \Sigma\, (\Sigma + \mathrm{diag}(\sigma^2))^{-1} (x - \mu)`.
        """
        level = self._one_level(sigma)
        if level is None:
            gain, error = self._by_pixel(sigma)
            deviation = (x.to(gain) - self.problem.mean).flatten(1)
            mean = self.problem.mean + _rows_times(deviation, gain).reshape(x.shape)
            return Denoised(mean.to(x), error.diagonal().to(x).expand_as(x))
        eigenvalues = self.problem.eigenvalues
        shrink = eigenvalues / (eigenvalues + noise_variance(level, eigenvalues))
        mean = self.problem.from_spectrum(shrink * self.problem.spectrum_of(x))
        return Denoised(mean.to(x), self._error(level).diagonal().to(x))

    def covariance(self, denoised: Denoised, sigma: Float[Tensor, " b *pixels"]) -> Covariance:
        r""":math:`Q \frac{\Lambda \sigma^2}{\Lambda + \sigma^2} Q^T`, whatever the answer was."""
        level = self._one_level(sigma)
        return self._by_pixel(sigma)[1] if level is None else self._error(level)

    def _error(self, sigma: Float[Tensor, " b"]) -> SpectralCovariance:
        eigenvalues = self.problem.eigenvalues
        variance = noise_variance(sigma, eigenvalues)
        spectrum = eigenvalues * variance / (eigenvalues + variance)
        return SpectralCovariance(self.problem.eigenvectors, spectrum, self.problem.shape)

    @staticmethod
    def _one_level(sigma: Float[Tensor, " b *pixels"]) -> Float[Tensor, " b"] | None:
        """The level of each picture, if its pixels share it."""
        levels = sigma.reshape(len(sigma), -1) if sigma.ndim > 1 else sigma.reshape(-1, 1)
        return levels[:, 0] if bool((levels == levels[:, :1]).all()) else None

    def _by_pixel(
        self, sigma: Float[Tensor, "b c h w"]
    ) -> tuple[Float[Tensor, "b n n"], DenseCovariance]:
        r"""The gain :math:`K`, and :math:`(I - K) \Sigma (I - K)^T + K S K^T`, which it leaves.

        Joseph's form, as it stays positive where the short one rounds. One matrix serves all
        pictures that have the same levels.
        """
        covariance = self.problem.covariance
        rows = sigma[:1] if bool((sigma == sigma[:1]).all()) else sigma
        variance = rows.to(covariance).expand(-1, *self.problem.shape).flatten(1) ** 2
        spread = covariance + variance.diag_embed()
        # Levels may be many orders of magnitude apart: to units in which every pixel varies by 1.
        unit = spread.diagonal(dim1=-2, dim2=-1).rsqrt().nan_to_num(posinf=0.0)
        scaled = unit[:, :, None] * spread * unit[:, None, :]
        inverse = cast(Any, torch.linalg).pinv(scaled, hermitian=True)  # torch leaves it untyped
        gain = covariance @ (unit[:, :, None] * inverse * unit[:, None, :])
        kept = torch.eye(covariance.shape[0]).to(covariance) - gain
        noise = gain @ (variance[:, :, None] * gain.mT)
        return gain, DenseCovariance(kept @ covariance @ kept.mT + noise, self.problem.shape)


def _rows_times(rows: Float[Tensor, "b n"], matrix: Float[Tensor, "b n n"]) -> Float[Tensor, "b n"]:
    """``matrix`` times each row, where there may be one matrix for all."""
    return (matrix @ rows[:, :, None])[:, :, 0]


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
