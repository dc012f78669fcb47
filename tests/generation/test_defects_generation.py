"""Defects of published interpolations, each beside what is done here."""

from __future__ import annotations

import pytest
import torch

from certes.diffusion.solvers.sampling import ReverseChain
from certes.generation import interpolation
from certes.generation.interpolation import interpolate

from .laws import MEAN, SHAPE, Recorder, correlated, fits

LEVEL, COUNT = 2.0, 4000
ZERO, EYE = torch.zeros(6, dtype=torch.float64), torch.eye(6, dtype=torch.float64)


def latent_noise() -> torch.Tensor:
    """The noise in what the denoiser is first asked about half way, in units of its level."""
    denoiser, x = Recorder(correlated().denoiser()), MEAN.expand(COUNT, *SHAPE)
    interpolate(denoiser, x, x, [0.5], LEVEL, "linear", chain=ReverseChain("ddim", 1))
    return (denoiser.asked[0] - MEAN).reshape(COUNT, 6) / LEVEL


def test_defect_pictures_are_mixed_where_latents_are_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    """(1 - lambda) x_0 + lambda x_0', to the letter, has no noise for the chain to remove."""
    assert fits(latent_noise(), ZERO, EYE / 2)
    monkeypatch.setattr(interpolation, "_mixed_noise", lambda e, *others: torch.zeros_like(e))
    assert not fits(latent_noise(), ZERO, EYE / 2)
    assert not latent_noise().any()
