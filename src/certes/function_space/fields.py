r"""Gaussian fields: functions of which everything is known, at every resolution.

On a domain with mirror boundaries

.. math:: f(y, x) = \mu + \sum_{kl} c_{kl}\, \phi_k(y)\, \phi_l(x), \qquad
          c_{kl} \sim N(0, \lambda(\omega_k^2 + \omega_l^2)),

:math:`\phi_k \propto \cos \omega_k y` of norm 1 over the domain. A picture of pitch :math:`p` shows
the coefficients below its Nyquist frequency, at the centres of its pixels; its orthonormal cosine
coefficients have the variance :math:`\lambda / p^2`. Blur and white noise are diagonal in the same
basis, so that with pixel noise of variance :math:`\sigma^2`

.. math:: E[x_0 | x]_k = \frac{\lambda_k / p^2}{\lambda_k / p^2 + \sigma^2}\, x_k, \qquad
          E[T x_0 | T x]_k = \frac{\lambda_k / p^2}{\lambda_k / p^2 + \sigma^2}\, (T x)_k ,

whatever the mollifier: it takes nothing away but precision. An exact model of functions, to test
samplers, filters and posteriors with.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.bases import CosineBasis
from certes.diffusion.covariance import Covariance
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.noise import stream_seeds
from certes.diffusion.residuals import SpectralCovariance
from certes.function_space.mollifier import Mollifier, squared_cosines, squared_frequencies
from certes.function_space.noise import CoupledNoise

Picture = Float[Tensor, "b c h w"]
Scalars = Float[Tensor, " b"]
Spectrum = Callable[[Float[Tensor, "h w"]], Float[Tensor, "h w"]]
r""":math:`\lambda` at squared frequencies, for instance a
:class:`~certes.function_space.unmollify.PowerLaw`."""

_BASIS = CosineBasis()


class GaussianField:
    r"""Functions with independent cosine coefficients, the same law in every channel.

    Args:
        spectrum: :math:`\lambda`, image units squared times area, of squared frequencies.
        mean: :math:`\mu`, image units.
        channels: of the functions, independent of each other.
    """

    def __init__(self, spectrum: Spectrum, mean: float = 0.5, channels: int = 1) -> None:
        self.spectrum, self.mean, self.channels = spectrum, mean, channels

    def power(self, shape: tuple[int, int], pitch: float = 1.0) -> Float[Tensor, "h w"]:
        r""":math:`\lambda / p^2`: variance of each orthonormal cosine coefficient, float64.

        Args:
            shape: rows and columns.
            pitch: length of a pixel.
        """
        return self.spectrum(squared_frequencies(shape, pitch)) / pitch**2

    def sample(
        self, n: int, shape: tuple[int, int], pitch: float = 1.0, seed: int = 0
    ) -> Float[Tensor, "n c h w"]:
        """Pictures of ``n`` functions, float64; the same seed: the same functions at every pitch.

        Args:
            n: how many.
            shape: rows and columns.
            pitch: length of a pixel.
            seed: function ``i`` depends on it and ``i`` alone.
        """
        source = CoupledNoise(stream_seeds(seed, [f"field/{i}" for i in range(n)]))
        white = source.coefficients((self.channels, *shape), torch.float64)
        return self.mean + _BASIS.inverse(white * self.power(shape, pitch).sqrt())

    def denoiser(self, mollifier: Mollifier, pitch: float = 1.0) -> FieldDenoiser:
        """The exact denoiser of pictures of this pitch and any shape.

        Args:
            mollifier: of the states that it is asked about.
            pitch: length of a pixel.
        """
        return FieldDenoiser(self, mollifier, pitch)


class FieldDenoiser(Denoiser):
    """What a perfect network of a Gaussian field would say; the calls of a
    :class:`~certes.function_space.denoiser.FunctionDenoiser`.

    Arithmetic is float64; answers come in the precision of the question.

    Args:
        field: the prior.
        mollifier: of the states that it is asked about.
        pitch: length of a pixel.
    """

    def __init__(self, field: GaussianField, mollifier: Mollifier, pitch: float = 1.0) -> None:
        self.field, self.mollifier, self.pitch = field, mollifier, pitch

    def at(self, pitch: float) -> FieldDenoiser:
        """The same field's, for pictures of another pitch."""
        return FieldDenoiser(self.field, self.mollifier, pitch)

    def __call__(self, x: Picture, sigma: Scalars) -> Denoised:
        """``E[x_0 | x]`` and the variance of every pixel."""
        power, noise = self._power(x), _column(sigma)
        gain = _share(power, noise)
        return self._denoised(x, gain, noise * gain)

    def of_blur(self, blurred: Picture, sigma: Scalars) -> Denoised:
        r"""``E[x_0 | T x]`` and the variance of every pixel.

        Where the blur leaves less of a coefficient than the rounding of ``T x``, nothing is known.

        Args:
            blurred: :math:`T (x_0 + \sigma e)`, image units.
            sigma: noise standard deviation of the unblurred pixels, image units.
        """
        power, noise = self._power(blurred), _column(sigma)
        symbol = self.mollifier.symbol(_sides(blurred), self.pitch).to(power)
        seen = symbol**2 * (power + noise)
        typical = self.field.mean**2 + seen.mean(dim=(-2, -1), keepdim=True)
        rounding = typical * torch.finfo(blurred.dtype).eps ** 2
        gain = symbol * power / (seen + rounding)
        return self._denoised(blurred, gain, power * (1 - symbol * gain))

    def blurred(self, blurred: Picture, sigma: Scalars) -> Picture:
        """``E[T x_0 | T x]``, image units, of ``T x``."""
        gain = _share(self._power(blurred), _column(sigma))
        return self._denoised(blurred, gain, gain).mean

    def covariance(self, denoised: Denoised, sigma: Scalars) -> Covariance:
        r""":math:`V\, \mathrm{diag}(\lambda \sigma^2 / (\lambda + \sigma^2 p^2))\, V^T`, whatever
        the answer was."""
        mean, noise = denoised.mean, _column(sigma)
        spectrum = noise * _share(self._power(mean), noise)
        return SpectralCovariance(spectrum.to(mean), mean.new_ones(1, 1, 1, 1))

    def _power(self, x: Picture) -> Float[Tensor, "h w"]:
        return self.field.power(_sides(x), self.pitch).to(x.device)

    def _denoised(
        self, x: Picture, gain: Float[Tensor, "b 1 h w"], error: Float[Tensor, "b 1 h w"]
    ) -> Denoised:
        """A gain for every coefficient, and what variance it leaves of them."""
        coefficients = _BASIS.forward(x.double() - self.field.mean) * gain
        mean = self.field.mean + _BASIS.inverse(coefficients)
        rows, columns = (squared_cosines(size).to(error) for size in _sides(x))
        variance = (rows @ error @ columns.T).expand_as(mean)
        return Denoised(mean.to(x), variance.to(x))


def _share(power: Float[Tensor, "h w"], noise: Float[Tensor, "b 1 1 1"]) -> Tensor:
    """How much of a noisy coefficient is signal; of one that is neither, nothing."""
    total = power + noise
    return power / total.where(total > 0, 1.0)


def _sides(x: Picture) -> tuple[int, int]:
    return x.shape[-2], x.shape[-1]


def _column(sigma: Scalars) -> Float[Tensor, "b 1 1 1"]:
    """Variances of float64, one for each picture."""
    return sigma.double()[:, None, None, None] ** 2
