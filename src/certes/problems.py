"""The public name of the exact problems; they live in :mod:`certes.diffusion.problems`."""

from __future__ import annotations

from certes.diffusion.problems import GaussianProblem, MixturePosterior, MixtureProblem

__all__ = ["GaussianProblem", "MixturePosterior", "MixtureProblem"]
