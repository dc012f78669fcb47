"""Metrics against closed forms and an independent implementation."""

from __future__ import annotations

import pytest
import torch
from skimage.metrics import structural_similarity

from certes.errors import InputError
from certes.evaluation.metrics import psnr, ssim


def test_psnr_of_a_known_error_per_image() -> None:
    reference = torch.rand(3, 2, 8, 8)
    offsets = torch.tensor([0.1, 0.01, 0.5]).reshape(3, 1, 1, 1)
    values = psnr(reference + offsets, reference)
    assert torch.allclose(values, torch.tensor([20.0, 40.0, 6.0206]), atol=1e-3)
    assert psnr(reference, reference).isinf().all()


def test_ssim_agrees_with_scikit_image() -> None:
    generator = torch.Generator().manual_seed(0)
    reference = torch.rand(2, 3, 48, 40, generator=generator)
    x = (reference + 0.1 * torch.randn(reference.shape, generator=generator)).clamp(0, 1)
    expected = [
        structural_similarity(
            a.numpy(),
            b.numpy(),
            data_range=1.0,
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in zip(x, reference, strict=True)
    ]
    assert ssim(x, reference).tolist() == pytest.approx(expected, abs=2e-3)
    assert ssim(reference[:1], reference[:1]).tolist() == pytest.approx([1.0])


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_shapes_must_agree(metric) -> None:
    with pytest.raises(InputError, match="same size and channels"):
        metric(torch.zeros(1, 1, 16, 16), torch.zeros(1, 3, 16, 16))
