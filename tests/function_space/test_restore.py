"""Super-resolution by encoding at one resolution and writing at a finer one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from certes.diffusion.bases import CosineBasis
from certes.errors import InputError, ModelError
from certes.function_space.model import FunctionModel
from certes.function_space.restore import super_resolve

from .conftest import Make
from .exact_field import FIELD, MEAN, model


def coefficients(x: Tensor) -> Tensor:
    return CosineBasis().forward(x.double() - MEAN)


def test_keeps_what_is_known_and_draws_what_is_not() -> None:
    y = FIELD.sample(2, (12, 16)).float()
    answer = super_resolve(y, model(), 2, samples=12, steps=30, seed=1)
    assert answer.kept is not None
    assert answer.kept.shape == (12, 2, 1, 24, 32)
    fine = coefficients(answer.kept) / 2
    known = coefficients(y)
    assert float((fine[..., :12, :16].mean(0) - known).norm() / known.norm()) < 0.2
    spread = fine.std(0)
    # Of the pixels of y nothing is drawn; beyond, as much as the field has (0.5: of each pitch).
    assert float(spread[..., :12, :16].max()) < 1e-3
    expected = FIELD.power((24, 32), 0.5).sqrt() / 2
    ratio = spread[..., 12:, 16:].mean() / expected[12:, 16:].mean()
    assert float(ratio) == pytest.approx(1, abs=0.15)
    made = answer.provenance
    assert made is not None
    assert made.operator == 'function-super-resolution {"factor": 2}'
    assert made.sampler == "dpm_solver_2m/encoded"
    assert made.steps == 30
    alone = super_resolve(y[:1], model(), 2, samples=12, steps=30, seed=1, batch_size=5)
    torch.testing.assert_close(alone.mean, answer.mean[:1], atol=1e-4, rtol=0)


def test_by_the_code_alone(make: Make) -> None:
    small = FunctionModel("small", make(), {}, "hash")
    y = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    answer = super_resolve(y, small, 1.5, encoded_noise=False, samples=2, steps=3)
    assert answer.mean.shape == (1, 1, 24, 24)
    assert answer.provenance is not None
    assert answer.provenance.sampler == "dpm_solver_2m/code"


def test_refuses(make: Make) -> None:
    y = torch.rand(1, 1, 16, 16)
    with pytest.raises(InputError, match="does not fill"):
        super_resolve(y, model(), 1.3, samples=1, steps=2)
    blind = FunctionModel("small", make(latent=0), {}, "hash")
    with pytest.raises(ModelError, match="no encoder"):
        super_resolve(y, blind, 2, encoded_noise=False)
    with pytest.raises(InputError, match="samples"):
        super_resolve(y, model(), 2, samples=0)
