"""A small operator network with random weights, and its denoiser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from certes.diffusion.residuals import ResidualSpectrum
from certes.diffusion.schedules import Cosine
from certes.function_space.autoencoder import DiffusionAutoencoder
from certes.function_space.config import OperatorConfig
from certes.function_space.denoiser import FunctionDenoiser
from certes.function_space.mollifier import Mollifier
from certes.function_space.presets import operator_keys
from certes.function_space.reading import Prediction, Reading
from certes.function_space.unmollify import PowerLaw, SpectralFilter

Make = Callable[..., FunctionDenoiser]


@pytest.fixture
def make() -> Make:
    """A denoiser of functions of 16 x 16 training pixels; equal arguments, equal denoisers."""

    def made(
        prediction: Prediction = "v",
        latent: int = 32,
        outputs: int = 2,
        measured: bool = True,
        center: float = 0.4,
    ) -> FunctionDenoiser:
        keys = operator_keys(16, [16, 16], 16, latent, blocks=1, width=8, reach=1)
        config = OperatorConfig(**keys, outputs=outputs, encoder=(16, 16))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = DiffusionAutoencoder(config).eval()
            # Networks start at zero; an untrained one shall answer something.
            for weights in net.parameters():
                if not weights.any():
                    torch.nn.init.normal_(weights, std=0.05)
        reading = Reading(Cosine(), Mollifier(0.75), prediction, center, scale=0.2)
        if not measured:
            return FunctionDenoiser(net, reading)
        levels = torch.tensor([0.01, 1.0], dtype=torch.float64)
        spectrum = ResidualSpectrum(levels, torch.full((2, 1, 16, 16), 0.1))
        gains = [torch.linspace(high, 0.1, 5).expand(2, 5).clone() for high in (0.9, 0.2, 1.0)]
        law = PowerLaw(0.01, 3.0, 3.0)
        return FunctionDenoiser(
            net, reading, unmollify=SpectralFilter(levels, *gains, law), spectrum=spectrum
        )

    return made
