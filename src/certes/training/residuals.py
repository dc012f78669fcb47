"""Measure a trained network's error spectrum on training pictures, noise level by noise level."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.bases import CosineBasis
from certes.diffusion.denoiser import Denoiser
from certes.diffusion.noise import stream_seeds
from certes.diffusion.residuals import ResidualSpectrum

# Image units: from half a grey level to where nothing of a picture is left to see.
LEVELS = torch.logspace(-2.7, 0.7, 18, dtype=torch.float64)
_CHUNK = 64


def measure_residuals(
    denoiser: Denoiser,
    patches: Float[Tensor, "b c s s"],
    levels: Float[Tensor, " l"] = LEVELS,
    seed: int = 0,
    turned: bool = True,
) -> ResidualSpectrum:
    """The mean squared cosine coefficients of ``(x_0 - E[x_0|x]) / deviation`` at each level.

    The deviation is the predicted one, or 1 where the network predicts none.

    Args:
        denoiser: the trained network.
        patches: square training patches, image units; a few hundred give 5 % accuracy.
        levels: noise levels, increasing, image units.
        seed: of the noise.
        turned: whether pictures come in every orientation, as in training with all eight
            symmetries: then rows and columns are alike, and either informs the other.
    """
    spectra = torch.stack([_spectrum(denoiser, patches, float(level), seed) for level in levels])
    return ResidualSpectrum(levels, (spectra + spectra.mT) / 2 if turned else spectra)


def _spectrum(
    denoiser: Denoiser, patches: Float[Tensor, "b c s s"], level: float, seed: int
) -> Float[Tensor, "c s s"]:
    (stream,) = stream_seeds(seed, [f"residuals {level:.6g}"])
    generator = torch.Generator().manual_seed(stream)
    device = denoiser.device or patches.device
    basis, total = CosineBasis(), patches.new_zeros(patches.shape[1:])
    for x0 in torch.split(patches, _CHUNK):
        x = x0 + level * torch.randn(x0.shape, generator=generator)
        sigma = torch.full((len(x0),), level)
        denoised = denoiser(x.to(device), sigma.to(device))
        residual = x0 - denoised.mean.cpu()
        if denoised.variance is not None:
            residual = residual / denoised.variance.cpu().sqrt()
        total += basis.forward(residual).square().sum(dim=0)
    return total / len(patches)
