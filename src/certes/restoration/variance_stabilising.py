r"""Noise that grows with the signal, turned into noise of one level, and back without bias.

Pictures with :math:`Var[y | x] = g x + r^2` (photons of g image units each, electronics of r) go
through the generalised Anscombe transform,

.. math:: f(y) = \frac{2}{g} \sqrt{\max(g y + \tfrac{3}{8} g^2 + r^2, 0)}

(Starck, Murtagh and Bijaoui, "Image processing and data analysis: the multiscale approach",
Cambridge 1998), whose noise has a standard deviation of about 1 wherever there are more than a few
photons. What is restored there is :math:`z = E[f(y) | x]`, since the noise about it has mean zero.
It is a rising function of x but not f itself: f is concave, so :math:`E f(y) < f(x)`.

Which inverse, for what:

* A *sample* of z given the measurement, or an *end of an interval* for z, becomes one for x through
  the inverse of :math:`x \mapsto E[f(y) | x]`, the exact unbiased inverse of Mäkitalo and Foi
  ("Optimal inversion of the generalized Anscombe transformation for Poisson-Gaussian noise", IEEE
  Transactions on Image Processing 22, 2013). It is monotone, so the share of samples below an end,
  and with it every guarantee, stays what it was.
* An *estimate* of z goes the same way, as those authors meant it. Where z itself remains uncertain
  that is not yet the mean of x, which lies a little higher, for the inverse is convex: transform
  samples, then average them.
* The algebraic inverse, :math:`f^{-1}`, undoes ``forward`` for values of y, that is for noisy
  pixels. On estimates it is too low, by a quarter of a photon where there are many.

The operators that go with this act on each pixel by itself (denoising, inpainting): a blur of x is
no blur of z.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from certes.errors import InputError
from certes.restoration.noise_model import SignalNoise

_MANY = 200.0  # photons, with read noise counted as photons, from where on a series is exact
_ENTRIES = 4096  # of the table of E f(y), evenly spaced in the transformed domain
_NODES = 2000  # of the integral over read noise
_REACH = 9.0  # standard deviations that sums and integrals go out


class VarianceStabiliser:
    r"""The transform, scaled so that clean pictures keep their range.

    :math:`E[\texttt{forward}(y) | x]` is 0 for x = 0 and 1 for x = 1, and the noise of
    ``forward(y)`` has the standard deviation ``sigma`` in the same units. Without a gain nothing
    needs to be done: ``forward`` and ``inverse`` return what they are given and ``sigma`` is the
    read noise.

    Args:
        noise: the law of the noise, image units; :func:`certes.restoration.measure_signal_noise`.

    Raises:
        InputError: a gain of more than one, a range of less than one photon.
    """

    sigma: float

    def __init__(self, noise: SignalNoise) -> None:
        if noise.gain > 1:
            raise InputError(f"gain is {noise.gain}; wanted at most 1: one photon fills the range")
        self.noise = noise
        self.sigma = noise.read
        if noise.gain > 0:
            self._anscombe = _Anscombe(noise.read / noise.gain, 1 / noise.gain)
            self.sigma = 1 / (self._anscombe.brightest - self._anscombe.darkest)

    def forward(self, y: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """A measurement with noise of the standard deviation ``sigma``, about z."""
        if self.noise.gain == 0:
            return y
        values = self._anscombe.transform(y.double() / self.noise.gain)
        return ((values - self._anscombe.darkest) * self.sigma).to(y.dtype)

    def inverse(self, z: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The exact unbiased inverse: the x of which ``forward(y)`` has the mean z.

        For estimates, samples and ends of intervals; at least 0, as there is no light below none.
        Exact to 2e-5 photons.
        """
        if self.noise.gain == 0:
            return z
        values = z.double() / self.sigma + self._anscombe.darkest
        return (self._anscombe.signal_of_mean(values) * self.noise.gain).to(z.dtype)

    def algebraic_inverse(self, z: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The y with ``forward(y) = z``: for noisy pixels, biased for anything smoother."""
        if self.noise.gain == 0:
            return z
        values = z.double() / self.sigma + self._anscombe.darkest
        return (self._anscombe.untransform(values) * self.noise.gain).to(z.dtype)


class _Anscombe:
    """The transform in photons: u of mean lambda and variance lambda + s^2.

    Args:
        s: the read noise, photons.
        most: the signal that is white, photons.
    """

    def __init__(self, s: float, most: float) -> None:
        self.s = s
        roots = torch.linspace(0, math.sqrt(1.1 * most + 10), _ENTRIES, dtype=torch.float64)
        self._signals = roots.square()
        self._means = self._expected(self._signals)
        ends = self._expected(torch.tensor([0.0, most], dtype=torch.float64))
        self.darkest, self.brightest = float(ends[0]), float(ends[1])

    def transform(self, u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return 2 * (u + 3 / 8 + self.s**2).clamp(min=0).sqrt()

    def untransform(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return values.clamp(min=0).square() / 4 - 3 / 8 - self.s**2

    def signal_of_mean(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The lambda whose expected transform this is.

        Interpolated is how far it is from the algebraic inverse, which hardly varies.
        """
        means, bias = (table.to(values.device) for table in (self._means, self._bias()))
        entry = torch.searchsorted(means, values.contiguous()).clamp(1, len(means) - 1)
        low, high = means[entry - 1], means[entry]
        share = ((values - low) / (high - low)).clamp(0, 1)
        correction = torch.lerp(bias[entry - 1], bias[entry], share)
        return (self.untransform(values) + correction).clamp(min=0)

    def _bias(self) -> Float[Tensor, " entries"]:
        return self._signals - self.untransform(self._means)

    def _expected(self, signals: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """The mean of the transform of lambda: a sum over photons, or a series where many."""
        series = self._series(signals)
        few = signals + self.s**2 < _MANY
        if bool(few.any()):
            series[few] = self._sum(signals[few])
        return series

    def _sum(self, signals: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        photons = torch.arange(int(_MANY + _REACH * math.sqrt(_MANY)) + 20, dtype=torch.float64)
        logs = signals.clamp(min=1e-300).log()[:, None] * photons
        chances = (logs - signals[:, None] - torch.lgamma(photons + 1)).exp()
        return chances @ self._averaged_over_read_noise(photons)

    def _averaged_over_read_noise(self, photons: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """E f(p + s e) for e standard normal.

        Integrated over the root itself, in which the integrand is smooth where f is not.
        """
        if self.s == 0:
            return self.transform(photons)
        centres = photons + 3 / 8 + self.s**2
        high = (centres + _REACH * self.s).sqrt()
        low = (centres - _REACH * self.s).clamp(min=0).sqrt()
        steps = (torch.arange(_NODES, dtype=torch.float64) + 0.5) / _NODES
        roots = low[:, None] + (high - low)[:, None] * steps
        deviates = (roots.square() - centres[:, None]) / self.s
        density = (-deviates.square() / 2).exp() / math.sqrt(2 * math.pi) / self.s
        return (2 * roots * density * 2 * roots).mean(dim=1) * (high - low)

    def _series(self, signals: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """The root expanded about its argument's mean, with the central moments of u."""
        variance = signals + self.s**2
        centre = variance + 3 / 8
        third, fourth = signals, 3 * variance.square() + signals
        factor = 1 - variance / (8 * centre**2) + third / (16 * centre**3)
        return 2 * centre.sqrt() * (factor - 5 * fourth / (128 * centre**4))
