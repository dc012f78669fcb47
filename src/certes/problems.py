"""The public name of the exact problems; they live in :mod:`certes.diffusion.problems`."""

from __future__ import annotations

from certes.diffusion.problems import (
    ConditionalGaussian,
    ConditionalMixture,
    GaussianProblem,
    MixturePosterior,
    MixtureProblem,
)

__all__ = [
    "ConditionalGaussian",
    "ConditionalMixture",
    "GaussianProblem",
    "MixturePosterior",
    "MixtureProblem",
]
