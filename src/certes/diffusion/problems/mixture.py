r"""Mixtures of Gaussians: closed forms for pictures that are anything but Gaussian.

Given a noisy picture, each component answers as a :class:`GaussianProblem` does and is believed in
proportion to :math:`w_k N(x; \mu_k, \Sigma_k + \sigma^2 I)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.covariance import Covariance
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.noise import stream_seeds
from certes.diffusion.problems.gaussian import GaussianProblem
from certes.diffusion.problems.linear import LinearMap, as_matrix, condition
from certes.errors import InputError, ModelError

Picture = Float[Tensor, "b c h w"]


@dataclass(frozen=True)
class MixturePosterior:
    """A mixture of Gaussians for each measurement.

    Args:
        weights: of the components, rows sum to 1.
        means: of the components.
        covariances: of the components, which all measurements share.
    """

    weights: Float[Tensor, "b k"]
    means: Float[Tensor, "b k c h w"]
    covariances: Float[Tensor, "k n n"]

    def mean(self) -> Picture:
        """The posterior mean."""
        return torch.einsum("bk,bkchw->bchw", self.weights, self.means)

    def covariance(self) -> Float[Tensor, "b n n"]:
        """The posterior covariance, within components plus between them."""
        deviations = (self.means - self.mean()[:, None]).flatten(2)
        between = torch.einsum("bk,bkn,bkm->bnm", self.weights, deviations, deviations)
        return torch.einsum("bk,knm->bnm", self.weights, self.covariances) + between


class MixtureProblem:
    r"""Pictures drawn from :math:`\sum_k w_k N(\mu_k, \Sigma_k)`; see :class:`GaussianProblem`.

    Args:
        weights: :math:`w_k`, not negative, made to sum to 1.
        means: :math:`\mu_k`, shape (k, C, H, W), image units.
        covariances: :math:`\Sigma_k`, shape (k, n, n), image units squared.

    Raises:
        InputError: if the shapes do not fit, a weight is negative or a matrix no covariance.
    """

    def __init__(
        self,
        weights: Float[Tensor, " k"],
        means: Float[Tensor, "k c h w"],
        covariances: Float[Tensor, "k n n"],
    ) -> None:
        _check_parts(weights, means, covariances)
        self.weights = weights.double() / weights.double().sum()
        pairs = zip(means, covariances, strict=True)
        self.components = [GaussianProblem(mean, covariance) for mean, covariance in pairs]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of a picture."""
        return self.components[0].shape

    def denoiser(self) -> MixtureDenoiser:
        r"""The exact :math:`E[x_0 | x_0 + \sigma e]`, with its covariance."""
        return MixtureDenoiser(self)

    def sample(self, n: int, seed: int) -> Picture:
        """``n`` pictures, float64, shape (n, C, H, W)."""
        generator = torch.Generator().manual_seed(seed)
        # Every component draws all n, so that the choice among them needs no bookkeeping.
        seeds = torch.randint(2**62, (len(self.components),), generator=generator)
        pairs = zip(self.components, seeds, strict=True)
        drawn = torch.stack([component.sample(n, int(key)) for component, key in pairs])
        chosen = torch.multinomial(self.weights.cpu(), n, replacement=True, generator=generator)
        return drawn[chosen.to(drawn.device), torch.arange(n, device=drawn.device)]

    def log_joint(self, x: Picture, sigma: float | Tensor) -> Float[Tensor, "b k"]:
        """The log of weight times density of every component at noise ``sigma``, float64."""
        exact = x.to(self.weights)
        logs = [component.log_likelihood(exact, sigma) for component in self.components]
        return torch.stack(logs, dim=1) + self.weights.log()

    def log_likelihood(self, x: Picture, sigma: float | Tensor = 0.0) -> Float[Tensor, " b"]:
        """The log density, in nats, of pictures with noise of standard deviation ``sigma``.

        Args:
            x: pictures.
            sigma: one number, or one for each picture, image units.
        """
        return self.log_joint(x, sigma).logsumexp(1).to(x)

    def posterior(self, y: Float[Tensor, " b *m"], H: LinearMap, noise: float) -> MixturePosterior:
        r"""The exact posterior of :math:`x_0` given :math:`y = H x_0 + \text{noise} \cdot e`.

        Args:
            y: measurements.
            H: a linear operator on pictures.
            noise: the standard deviation of the measurement noise. At 0, components whose
                measurements vary in different directions cannot be compared.
        """
        matrix = as_matrix(H, self.shape, self.weights)
        flat = y.to(self.weights).flatten(1)
        known = [
            condition(component.mean.flatten(), component.covariance, matrix, flat, noise)
            for component in self.components
        ]
        evidence = torch.stack([part.log_evidence for part in known], dim=1)
        means = torch.stack([part.mean for part in known], dim=1)
        return MixturePosterior(
            (evidence + self.weights.log()).softmax(1).to(y),
            means.to(y).reshape(*means.shape[:2], *self.shape),
            torch.stack([part.covariance for part in known]).to(y),
        )

    def posterior_sample(
        self, y: Float[Tensor, " b *m"], H: LinearMap, noise: float, n: int, seed: int
    ) -> Float[Tensor, "n b c h w"]:
        """``n`` exact posterior samples for each measurement."""
        known = self.posterior(y.to(self.weights), H, noise)
        keys = stream_seeds(seed, [str(i) for i in range(len(y))])
        batches = [
            MixtureProblem(weights, means, known.covariances).sample(n, key)
            for weights, means, key in zip(known.weights, known.means, keys, strict=True)
        ]
        return torch.stack(batches, dim=1).to(y)


@dataclass(frozen=True)
class MixtureDenoised(Denoised):
    """The answer of a mixture, with what its covariance needs.

    Args:
        responsibilities: how far each component is believed.
        means: the answer of each component, float64.
    """

    responsibilities: Float[Tensor, "b k"] = field(kw_only=True)
    means: Float[Tensor, "b k c h w"] = field(kw_only=True)


class MixtureCovariance(Covariance):
    """Covariance within the components plus covariance between their means.

    Args:
        responsibilities: how far each component is believed.
        parts: the covariance within each component.
        deviations: of the component means from the overall mean.
    """

    def __init__(
        self,
        responsibilities: Float[Tensor, "b k"],
        parts: Sequence[Covariance],
        deviations: Float[Tensor, "b k c h w"],
    ) -> None:
        self.responsibilities = responsibilities
        self.parts = parts
        self.deviations = deviations

    def apply(self, v: Picture) -> Picture:
        """``P v``, in the precision of ``v``."""
        exact = v.to(self.deviations)
        within = torch.stack([part.apply(exact) for part in self.parts], dim=1)
        along = torch.einsum("bkchw,bchw->bk", self.deviations, exact)
        every = within + along[..., None, None, None] * self.deviations
        return self._average(every).to(v)

    def diagonal(self) -> Picture:
        """The variance of every pixel, float64."""
        within = torch.stack([part.diagonal() for part in self.parts], dim=1)
        return self._average(within + self.deviations**2)

    def _average(self, every: Float[Tensor, "b k c h w"]) -> Picture:
        return torch.einsum("bk,bkchw->bchw", self.responsibilities, every)


class MixtureDenoiser(Denoiser):
    """The exact denoiser of a :class:`MixtureProblem`."""

    def __init__(self, problem: MixtureProblem) -> None:
        self.problem = problem
        self._parts = [component.denoiser() for component in problem.components]

    def __call__(self, x: Picture, sigma: Float[Tensor, " b"]) -> MixtureDenoised:
        """The components' answers, averaged by how well each explains ``x``."""
        exact = x.to(self.problem.weights)
        responsibilities = self.problem.log_joint(exact, sigma).softmax(1)
        answers = [part(exact, sigma) for part in self._parts]
        means = torch.stack([answer.mean for answer in answers], dim=1)
        mean = torch.einsum("bk,bkchw->bchw", responsibilities, means)
        denoised = MixtureDenoised(mean, responsibilities=responsibilities, means=means)
        variance = self.covariance(denoised, sigma).diagonal()
        return replace(denoised, mean=mean.to(x), variance=variance.to(x))

    def covariance(self, denoised: Denoised, sigma: Float[Tensor, " b"]) -> Covariance:
        """The covariance of a picture that this denoiser has seen.

        Raises:
            ModelError: if ``denoised`` is not an answer of a mixture: the covariance depends on it.
        """
        if not isinstance(denoised, MixtureDenoised):
            raise ModelError("denoised: give the very answer that this mixture's denoiser returned")
        mean = torch.einsum("bk,bkchw->bchw", denoised.responsibilities, denoised.means)
        parts = [part.covariance(denoised, sigma) for part in self._parts]
        return MixtureCovariance(denoised.responsibilities, parts, denoised.means - mean[:, None])


def _check_parts(weights: Tensor, means: Tensor, covariances: Tensor) -> None:
    counts = len(weights), len(means), len(covariances)
    if len(set(counts)) != 1 or not bool((weights >= 0).all()) or not bool(weights.sum() > 0):
        raise InputError(
            f"weights, means, covariances: {counts} entries; give equally many, at least one, and "
            "weights that are not negative and not all zero"
        )
