r"""Choices of :math:`P = Cov[x_0 \mid x_t]`: how far a measurement tells of its neighbours.

A denoiser answers with the best that it knows (for a network: the spectrum of its errors times the
variance that it predicts for each pixel). The others are the parts of that answer, for comparison,
and the Jacobian of the denoiser itself,

.. math:: P = \sigma_t^2\, \partial \hat x_0 / \partial x_t

(Tweedie's second-order formula), exact for an exact denoiser and any prior: the expensive
reference, one backward pass through the network for every product with :math:`P`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.covariance import Covariance
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.residuals import SpectralCovariance
from certes.errors import InputError


class WithCovariance(Denoiser):
    """The same answers with another covariance.

    Args:
        denoiser: what answers.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser
        self.inflation = denoiser.inflation
        self.confined = denoiser.confined

    def __call__(self, x: Float[Tensor, "b c h w"], sigma: Float[Tensor, " b"]) -> Denoised:
        return self.denoiser(x, sigma)

    def covariance(self, denoised: Denoised, sigma: Float[Tensor, " b"]) -> Covariance:
        return self.denoiser.covariance(denoised, sigma)


class Spectrum(WithCovariance):
    """Errors of one variance everywhere in a picture, correlated as they were measured to be."""

    def covariance(self, denoised: Denoised, sigma: Float[Tensor, " b"]) -> Covariance:
        known = self.denoiser.covariance(denoised, sigma)
        if not isinstance(known, SpectralCovariance):
            return known  # an exact one, or one that is a spectrum alone
        variance = known.deviation.square().mean((1, 2, 3), keepdim=True)
        return SpectralCovariance(known.spectrum, variance.sqrt())


class Pixels(WithCovariance):
    """Errors of another variance in every pixel, not correlated."""

    def covariance(self, denoised: Denoised, sigma: Float[Tensor, " b"]) -> Covariance:
        return Diagonal(self.denoiser.covariance(denoised, sigma).diagonal().to(denoised.mean))


class Isotropic(WithCovariance):
    """Errors of one variance, not correlated: what a singular value decomposition alone knows."""

    def covariance(self, denoised: Denoised, sigma: Float[Tensor, " b"]) -> Covariance:
        variance = self.denoiser.covariance(denoised, sigma).diagonal().to(denoised.mean)
        return Diagonal(variance.mean((1, 2, 3), keepdim=True))


class Diagonal(Covariance):
    """A variance for every pixel.

    Args:
        variance: broadcastable to the pictures, image units squared.
    """

    def __init__(self, variance: Float[Tensor, "b c h w"]) -> None:
        self.variance = variance

    def apply(self, v: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return self.variance * v

    def diagonal(self) -> Float[Tensor, "b c h w"]:
        return self.variance


@dataclass(frozen=True)
class Traced(Denoised):
    """An answer that remembers its question, so that it can be differentiated.

    Args:
        x: the noisy pictures, part of a graph.
        answer: the mean, part of the same graph.
    """

    x: Tensor | None = None
    answer: Tensor | None = None


class Jacobian(WithCovariance):
    """The denoiser's own Jacobian, by vector-Jacobian products (moment matching).

    It works with every network, measured or not.
    """

    def __call__(self, x: Float[Tensor, "b c h w"], sigma: Float[Tensor, " b"]) -> Denoised:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            denoised = self.denoiser(x, sigma)
        variance = None if denoised.variance is None else denoised.variance.detach()
        return Traced(denoised.mean.detach(), variance, x, denoised.mean)

    def covariance(self, denoised: Denoised, sigma: Float[Tensor, " b"]) -> Covariance:
        """``sigma^2`` times the Jacobian where ``denoised`` was answered.

        Raises:
            InputError: for an answer that is not this denoiser's own.
        """
        if not isinstance(denoised, Traced) or denoised.x is None or denoised.answer is None:
            raise InputError("denoised: not an answer of this denoiser, so it has no Jacobian")
        return JacobianCovariance(denoised.x, denoised.answer, sigma)


class JacobianCovariance(Covariance):
    """``sigma^2 J^T v``, by one backward pass each.

    Args:
        x: the noisy pictures.
        answer: ``E[x_0 | x]``, a differentiable function of them.
        sigma: noise level of each picture, image units.
    """

    def __init__(self, x: Tensor, answer: Tensor, sigma: Float[Tensor, " b"]) -> None:
        self.x, self.answer = x, answer
        self.variance = (sigma**2).to(x)[:, None, None, None]

    def apply(self, v: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        (product,) = torch.autograd.grad(self.answer, self.x, v.to(self.answer), retain_graph=True)
        return self.variance * product

    def diagonal(self) -> Float[Tensor, "b 1 1 1"]:
        """The mean over pixels, estimated by one random probe (Hutchinson): it only sets a scale.

        The probe is the same at every call, so that no answer depends on how often it was asked.
        """
        generator = torch.Generator().manual_seed(0)
        probe = 2.0 * torch.randint(2, self.x.shape[1:], generator=generator) - 1
        probe = probe.to(self.x).expand_as(self.x)
        mean = (probe * self.apply(probe)).mean((1, 2, 3), keepdim=True)
        return mean.clamp(min=1e-6 * self.variance)


COVARIANCES: dict[str, type[WithCovariance]] = {
    "model": WithCovariance,
    "spectrum": Spectrum,
    "pixels": Pixels,
    "isotropic": Isotropic,
    "jacobian": Jacobian,
}
