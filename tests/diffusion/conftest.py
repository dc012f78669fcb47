"""Small problems with known answers."""

from __future__ import annotations

import pytest
import torch

from certes.diffusion.problems import GaussianProblem, MixtureProblem

SHAPE = (1, 2, 3)


def covariances(count: int, size: int, scale: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    a = torch.randn(count, size, size, generator=generator, dtype=torch.float64)
    return scale**2 * (a @ a.mT / size + 0.1 * torch.eye(size, dtype=torch.float64))


@pytest.fixture(scope="session")
def gaussian() -> GaussianProblem:
    generator = torch.Generator().manual_seed(1)
    mean = 0.5 + 0.1 * torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    return GaussianProblem(mean, covariances(1, 6, 0.2)[0])


@pytest.fixture(scope="session")
def mixture() -> MixtureProblem:
    generator = torch.Generator().manual_seed(2)
    means = torch.rand(3, *SHAPE, generator=generator, dtype=torch.float64)
    weights = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    return MixtureProblem(weights, means, covariances(3, 6, 0.15))
