"""y = H x + noise: the right level, reproducible, independent of batch mates, not clipped."""

from __future__ import annotations

import pytest
import torch

from certes.errors import InputError
from certes.restoration.degradations import degrade
from certes.restoration.operators import Denoise, Inpaint, SuperResolution

SHAPE = (1, 64, 64)
PICTURES = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(0))


def test_noise_has_the_levels_asked_for() -> None:
    H = SuperResolution(SHAPE, 2)
    levels = torch.tensor([0.0, 0.1, 0.5])
    residual = degrade(PICTURES, H, levels, seed=1) - H(PICTURES)
    assert torch.equal(residual[0], torch.zeros_like(residual[0]))
    torch.testing.assert_close(residual.flatten(1).std(1)[1:], levels[1:], rtol=0.1, atol=0)
    assert float(residual[2].mean().abs()) < 0.08


def test_values_are_not_clipped() -> None:
    y = degrade(PICTURES, Denoise(SHAPE), 0.5, seed=1)
    assert float(y.min()) < -0.5
    assert float(y.max()) > 1.5


def test_same_seed_same_noise_whatever_the_batch() -> None:
    H = Denoise(SHAPE)
    y = degrade(PICTURES, H, 0.1, seed=4)
    assert torch.equal(y[:1], degrade(PICTURES[:1], H, 0.1, seed=4))
    assert not torch.equal(y, degrade(PICTURES, H, 0.1, seed=5))
    residual = y - PICTURES
    assert not torch.allclose(residual[0], residual[1], atol=1e-3)


def test_unknown_pixels_hold_no_noise() -> None:
    mask = torch.rand(64, 64, generator=torch.Generator().manual_seed(2)) < 0.3
    y = degrade(PICTURES, Inpaint(SHAPE, mask), 0.1, seed=1)
    assert int((y[:, :, ~mask] != 0).sum()) == 0
    assert float((y - PICTURES)[:, :, mask].std()) == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize("noise", [-0.1, float("nan"), float("inf"), torch.tensor([0.1, 0.1])])
def test_bad_noise_is_explained(noise: float | torch.Tensor) -> None:
    with pytest.raises(InputError, match="noise"):
        degrade(PICTURES, Denoise(SHAPE), noise, seed=0)
