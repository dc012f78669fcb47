r"""Pairs of a picture and a measurement of it, for which every conditional answer is known.

A pair is :math:`(x_0, y = H x_0 + \tau n)`, and a conditional model sees both blocks with noise of
their own, :math:`x_t = x_0 + \sigma^x e` and :math:`y_t = y + \sigma^y h` (Batzolis et al. 2021,
arXiv:2111.13606). Since :math:`y_t` is one more linear measurement, with noise
:math:`\tau^2 + (\sigma^y)^2`, all follows in two steps: condition on :math:`y_t`, which leaves
Gaussians :math:`N(m, P)`, then denoise :math:`x_t` as :class:`GaussianDenoiser` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Generic, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.denoiser import ConditionalDenoiser, Denoised, JointlyDenoised
from certes.diffusion.noise import stream_seeds
from certes.diffusion.problems.gaussian import GaussianProblem, noise_variance
from certes.diffusion.problems.linear import LinearMap, as_matrix, eigh, log_normal
from certes.diffusion.problems.mixture import MixturePosterior, MixtureProblem
from certes.errors import InputError

Picture = Float[Tensor, "b c h w"]
Measurement = Float[Tensor, " b *out"]
Problem = TypeVar("Problem", GaussianProblem, MixtureProblem)

_RANK = 1e-13  # gains whose square is below this fraction of the largest carry no information
_KEPT = 4  # decompositions; one for each noise level of the measurements


class _Seen:
    r"""A Gaussian seen through a matrix, prepared for every noise level.

    With a root :math:`\Sigma = R R^T` and :math:`H R = U\, \mathrm{diag}(s)\, V^T`, noise of
    variance :math:`v` leaves :math:`P = A\, \mathrm{diag}(v / (s^2 + v))\, A^T, A = R V`, which no
    rounding makes negative. Only the eigenvectors of :math:`P` are found anew for another ``v``.
    """

    def __init__(self, problem: GaussianProblem, matrix: Float[Tensor, "m n"]) -> None:
        self.mean = problem.mean.flatten()
        root = problem.eigenvectors * problem.eigenvalues.sqrt()
        self.left, gains, right = cast(Any, torch.linalg).svd(matrix @ root)
        squares = gains**2
        squares = torch.where(squares > _RANK * squares[0], squares, 0.0)
        self.squares_y = _padded(squares, len(matrix))
        self.squares_x = _padded(squares, len(self.mean))
        self.root = root @ right.T
        self.seen_mean = matrix @ self.mean
        self.spectrum = lru_cache(_KEPT)(self._spectrum)

    def _spectrum(self, variance: float) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
        """Eigenvalues and eigenvectors of ``P``."""
        # What is made under inference_mode could not take part in a later backward pass.
        with torch.inference_mode(False):
            total = self.squares_x + variance
            kept = torch.where(total > 0, variance / total, 1.0)
            eigenvalues, eigenvectors = eigh((self.root * kept) @ self.root.T)
            return eigenvalues.clamp(min=0), eigenvectors

    def given(
        self, y: Float[Tensor, "b m"], variance: float
    ) -> tuple[Float[Tensor, "b n"], Float[Tensor, " b"]]:
        """``m`` and the log density of ``y``, on the directions in which it can vary, nats."""
        total = self.squares_y + variance
        varies = total > 0
        innovation = (y - self.seen_mean) @ self.left
        evidence = log_normal(innovation[:, varies], total[varies])
        seen = self.squares_y > 0
        gain = self.squares_y[seen].sqrt() / total[seen]
        count = len(gain)  # gains descend, so that the first are the positive ones
        return self.mean + gain * innovation[:, :count] @ self.root[:, :count].T, evidence

    def believed(
        self,
        x: Float[Tensor, "b n"],
        noise_x: Float[Tensor, "b 1"],
        y: Float[Tensor, "b m"],
        variance: float,
    ) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n"], Float[Tensor, " b"]]:
        """Mean and variance of every pixel given both, and the log density of both, nats.

        Args:
            x: noisy pictures.
            noise_x: variance of their noise.
            y: noisy measurements.
            variance: of the noise of these.
        """
        m, evidence = self.given(y, variance)
        eigenvalues, eigenvectors = self.spectrum(variance)
        total = eigenvalues + noise_x
        z = (x - m) @ eigenvectors
        mean = m + (eigenvalues / total * z) @ eigenvectors.T
        spread = (eigenvalues * noise_x / total) @ eigenvectors.T**2
        return mean, spread, evidence + log_normal(z, total)


class _Pairs(Generic[Problem]):
    """What both problems share: pairs, their densities and their denoiser."""

    def __init__(self, problem: Problem, H: LinearMap, noise: float) -> None:
        if noise < 0:
            raise InputError(f"noise: {noise}; give a standard deviation, 0 or more")
        self.problem: Problem = problem
        self.H = H
        self.noise = noise
        weights, components = _components(problem)
        matrix = as_matrix(H, problem.shape, weights)
        self._exact = ExactConditionalDenoiser(components, weights, matrix, noise)

    def sample(self, n: int, seed: int) -> tuple[Picture, Measurement]:
        """``n`` pictures and what was measured of each, float64."""
        x0 = self.problem.sample(n, seed)
        y = self.H(x0).to(x0)
        generator = torch.Generator().manual_seed(stream_seeds(seed, ["measurement"])[0])
        e = torch.randn(y.shape, generator=generator, dtype=torch.float64)
        return x0, y + self.noise * e.to(y)

    def denoiser(self) -> ExactConditionalDenoiser:
        r"""The exact :math:`E[x_0, y | x_t, y_t]`."""
        return self._exact

    def log_joint(
        self, x: Picture, sigma_x: float | Tensor, y: Measurement, sigma_y: float | Tensor
    ) -> Float[Tensor, " b"]:
        """The log density of noisy pairs, in nats.

        Args:
            x: pictures with noise of standard deviation ``sigma_x``.
            sigma_x: one number, or one for each picture, image units.
            y: measurements with additional noise of standard deviation ``sigma_y``.
            sigma_y: one number, or one for each measurement.
        """
        return self._exact.log_joint(x, sigma_x, y, sigma_y)

    def log_evidence(self, y: Measurement, sigma_y: float | Tensor = 0.0) -> Float[Tensor, " b"]:
        """The log density of noisy measurements alone, in nats."""
        return self._exact.log_evidence(y, sigma_y)


class ConditionalGaussian(_Pairs[GaussianProblem]):
    r"""Gaussian pictures and linear measurements of them, with every conditional answer exact.

    Args:
        problem: the pictures.
        H: a linear operator on them.
        noise: :math:`\tau`, the standard deviation of the noise that is part of ``y``, 0 included.

    Raises:
        InputError: if the noise is negative.
    """

    def posterior(self, y: Measurement) -> tuple[Picture, Float[Tensor, "n n"]]:
        """:meth:`GaussianProblem.posterior` of clean pictures given clean measurements."""
        return self.problem.posterior(y, self.H, self.noise)


class ConditionalMixture(_Pairs[MixtureProblem]):
    """Mixtures of Gaussians and linear measurements of them; see :class:`ConditionalGaussian`.

    Without any noise, components whose measurements vary in different directions cannot be
    compared.
    """

    def posterior(self, y: Measurement) -> MixturePosterior:
        """:meth:`MixtureProblem.posterior` of clean pictures given clean measurements."""
        return self.problem.posterior(y, self.H, self.noise)


class ExactConditionalDenoiser(ConditionalDenoiser):
    """What a perfect conditional model would answer; arithmetic is float64.

    The pictures of a batch that share a level ``sigma_y`` share one decomposition, and the last few
    are kept: a sampler whose condition keeps its level pays for one in all.
    """

    def __init__(
        self,
        components: Sequence[GaussianProblem],
        weights: Float[Tensor, " k"],
        matrix: Float[Tensor, "m n"],
        noise: float,
    ) -> None:
        self._components = [_Seen(component, matrix) for component in components]
        self._log_weights = weights.log()
        self._matrix = matrix
        self._noise = noise

    def __call__(
        self,
        x: Picture,
        sigma_x: Float[Tensor, " b"],
        y: Measurement,
        sigma_y: Float[Tensor, " b"],
    ) -> JointlyDenoised:
        r"""The components' answers, averaged by how well each explains the pair.

        Of the measurement: :math:`E[y | x_t, y_t] = (1 - r) H\, E[x_0 | x_t, y_t] + r y_t` with
        :math:`r = \tau^2 / (\tau^2 + (\sigma^y)^2)`, the share of its noise that is part of ``y``.
        """
        means, variances, logs = self._believed(x, sigma_x, y, sigma_y)
        trust = logs.softmax(1)[..., None]
        mean = (trust * means).sum(1)
        variance = (trust * (variances + (means - mean[:, None]) ** 2)).sum(1)
        known = Denoised(mean.to(x).reshape(x.shape), variance.to(x).reshape(x.shape))
        return JointlyDenoised(known, self._measured(mean, y, sigma_y))

    def _measured(
        self, mean: Float[Tensor, "b n"], y: Measurement, sigma_y: float | Tensor
    ) -> Measurement:
        added = noise_variance(sigma_y, mean)
        share = torch.where(added > 0, added / (added + self._noise**2), 0.0)
        flat = y.to(mean).flatten(1)
        return (flat + share * (mean @ self._matrix.T - flat)).to(y).reshape(y.shape)

    def log_joint(
        self, x: Picture, sigma_x: float | Tensor, y: Measurement, sigma_y: float | Tensor
    ) -> Float[Tensor, " b"]:
        """See :meth:`ConditionalGaussian.log_joint`."""
        return self._believed(x, sigma_x, y, sigma_y)[2].logsumexp(1).to(x)

    def log_evidence(self, y: Measurement, sigma_y: float | Tensor) -> Float[Tensor, " b"]:
        """See :meth:`ConditionalGaussian.log_evidence`."""
        flat = y.to(self._matrix).flatten(1)

        def ask(variance: float, rows: Tensor) -> tuple[Tensor]:
            logs = [part.given(flat[rows], variance)[1] for part in self._components]
            return ((torch.stack(logs, 1) + self._log_weights).logsumexp(1),)

        return self._by_level(sigma_y, flat, ask)[0].to(y)

    def _believed(
        self, x: Picture, sigma_x: float | Tensor, y: Measurement, sigma_y: float | Tensor
    ) -> tuple[Tensor, ...]:
        """Means (b, k, n), variances (b, k, n) and weighted log densities (b, k) of components."""
        flat_x, flat_y = (value.to(self._matrix).flatten(1) for value in (x, y))
        noise_x = noise_variance(sigma_x, flat_x).expand(len(flat_x), 1)

        def ask(variance: float, rows: Tensor) -> tuple[Tensor, ...]:
            pairs = flat_x[rows], noise_x[rows], flat_y[rows]
            parts = [part.believed(*pairs, variance) for part in self._components]
            means, variances, logs = (
                torch.stack(answers, 1) for answers in zip(*parts, strict=True)
            )
            return means, variances, logs + self._log_weights

        return self._by_level(sigma_y, flat_y, ask)

    def _by_level(
        self,
        sigma_y: float | Tensor,
        y: Float[Tensor, "b m"],
        ask: Callable[[float, Tensor], tuple[Tensor, ...]],
    ) -> tuple[Tensor, ...]:
        """Ask for the rows of each variance of the noise of ``y`` together; answers in order."""
        variances = noise_variance(sigma_y, y).expand(len(y), 1)[:, 0] + self._noise**2
        levels: list[float] = sorted(set(cast(Any, variances).tolist()))
        rows = [torch.argwhere(variances == level).flatten() for level in levels]
        answers = [ask(level, some) for level, some in zip(levels, rows, strict=True)]
        order = torch.cat(rows).argsort()
        return tuple(torch.cat(parts)[order] for parts in zip(*answers, strict=True))


def _components(
    problem: GaussianProblem | MixtureProblem,
) -> tuple[Float[Tensor, " k"], Sequence[GaussianProblem]]:
    if isinstance(problem, MixtureProblem):
        return problem.weights, problem.components
    return problem.mean.new_ones(1), [problem]


def _padded(values: Float[Tensor, " k"], count: int) -> Float[Tensor, " n"]:
    return torch.cat([values, values.new_zeros(count - len(values))])
