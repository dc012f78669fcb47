"""Your own prior: anything that denoises and knows its error serves as a model.

Here the pictures are known to be Gaussian, so that the denoiser is a Wiener filter, and the exact
posterior is known as well: the samples are compared with it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

import certes
from certes.diffusion.covariance import Covariance
from certes.diffusion.denoiser import Denoised, Denoiser

SIDE, NOISE = 12, 0.05


class WienerCovariance(Covariance):
    """``P = Q p Q'``, the error of a Wiener filter."""

    def __init__(self, vectors: Tensor, spectrum: Float[Tensor, "b n"]) -> None:
        self.vectors, self.spectrum = vectors, spectrum

    def apply(self, v: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """``P v``."""
        turned = v.flatten(1).to(self.vectors) @ self.vectors
        return ((turned * self.spectrum) @ self.vectors.T).reshape(v.shape).to(v)

    def diagonal(self) -> Float[Tensor, "b c h w"]:
        """The variance of every pixel."""
        return (self.spectrum @ self.vectors.T.square()).reshape(-1, 1, SIDE, SIDE)


class Wiener(Denoiser):
    """``E[x0 | x]`` of Gaussian pictures about mid-grey, and ``Cov[x0 | x]``."""

    def __init__(self, covariance: Float[Tensor, "n n"]) -> None:
        values, self.vectors = torch.linalg.eigh(covariance)
        self.values = values.clamp(min=0)

    def __call__(self, x: Float[Tensor, "b c h w"], sigma: Float[Tensor, " b"]) -> Denoised:
        """Shrink every coefficient by what is signal in it."""
        noise = sigma.to(self.values)[:, None] ** 2
        turned = (x - 0.5).flatten(1).to(self.vectors) @ self.vectors
        kept = turned * self.values / (self.values + noise)
        mean = 0.5 + (kept @ self.vectors.T).reshape(x.shape)
        return Denoised(mean.to(x), self._error(sigma).diagonal().to(x))

    def covariance(self, denoised: Denoised, sigma: Float[Tensor, " b"]) -> Covariance:
        """What a Wiener filter leaves, whatever it answered."""
        return self._error(sigma)

    def _error(self, sigma: Float[Tensor, " b"]) -> WienerCovariance:
        noise = sigma.to(self.values)[:, None] ** 2
        return WienerCovariance(self.vectors, self.values * noise / (self.values + noise))


def main() -> None:
    """Super-resolve by the own denoiser; compare with the exact posterior."""
    places = torch.cartesian_prod(*[torch.arange(SIDE, dtype=torch.float64)] * 2)
    covariance = 0.15**2 * torch.exp(-torch.cdist(places, places).square() / 18)
    problem = certes.problems.GaussianProblem(torch.full((1, SIDE, SIDE), 0.5), covariance)

    truth = problem.sample(8, seed=0).float()
    H = certes.operators.SuperResolution((1, SIDE, SIDE), factor=4)
    y = H(truth)
    y = y + NOISE * torch.randn(y.shape, generator=torch.manual_seed(1))
    posterior = certes.restore(y, H, Wiener(covariance), noise=NOISE, samples=200, steps=20, seed=0)

    mean, exact = problem.posterior(y, H, NOISE)
    spread = exact.diagonal().reshape(1, 1, SIDE, SIDE).sqrt()
    off = float((posterior.mean - mean).square().mean().sqrt() / spread.mean())
    ratio = float((posterior.std / spread).mean())
    inside = float(posterior.bounds(alpha=0.1).contains(truth).float().mean())
    print(f"the mean of 200 samples is {off:.3f} standard deviations off")
    print(f"they spread {ratio:.3f} times as far as the exact posterior")
    print(f"their 90 % intervals hold {inside:.3f} of the pixels")


if __name__ == "__main__":
    main()
