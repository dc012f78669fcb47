"""What networks predict: each target is what its paper says, and is read back exactly."""

from __future__ import annotations

import pytest
import torch

from certes.diffusion.parametrisation import Parametrisation
from certes.errors import ModelError

ALPHA = torch.tensor([1.0, 0.9, 0.3, 0.01], dtype=torch.float64)[:, None, None, None]
SIGMA = torch.tensor([1e-3, 0.6, 2.0, 1.0], dtype=torch.float64)[:, None, None, None]
TARGETS = {
    "noise": lambda x0, e: e,
    "x0": lambda x0, e: x0,
    "v": lambda x0, e: ALPHA * e - SIGMA * x0,
    "score": lambda x0, e: -e / SIGMA,
}


@pytest.mark.parametrize("name", TARGETS)
def test_targets_and_their_inverse(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x0, e, error = torch.randn(3, 4, 2, 3, 5, generator=generator, dtype=torch.float64)
    x_t = ALPHA * x0 + SIGMA * e
    parametrisation = Parametrisation(name)
    target = parametrisation.target(x_t, x0, ALPHA, SIGMA)
    # At sigma = .001 a target is told from x_t / sigma by its last digits.
    torch.testing.assert_close(target, TARGETS[name](x0, e), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(parametrisation.x0(x_t, target, ALPHA, SIGMA), x0)
    # An error of the prediction is an error of x_0, divided by b.
    _, b = parametrisation.coefficients(ALPHA, SIGMA)
    off = parametrisation.x0(x_t, target + error, ALPHA, SIGMA) - x0
    torch.testing.assert_close(off, error / b, rtol=1e-6, atol=1e-9)


def test_unknown_prediction() -> None:
    with pytest.raises(ModelError, match="'flow'; give noise, x0, v or score"):
        Parametrisation("flow")
