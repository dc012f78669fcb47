"""Metrics against closed forms and an independent implementation."""

from __future__ import annotations

import pytest
import torch
from skimage.metrics import structural_similarity

from certes.errors import InputError
from certes.evaluation.metrics import diversity, over_draws, psnr, ssim


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


def test_all_draws_count() -> None:
    reference = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    samples = reference + torch.tensor([0.1, 0.01, 0.001]).reshape(3, 1, 1, 1, 1)
    values = over_draws(psnr, samples, reference)
    assert values.tolist() == pytest.approx([40.0, 40.0], abs=1e-2)
    # The control: the last draw alone, which some published figures were of.
    assert psnr(samples[-1], reference).tolist() == pytest.approx([60.0, 60.0], abs=1e-1)
    similar = [ssim(draw, reference)[0] for draw in samples]
    assert float(over_draws(ssim, samples, reference)[0]) == pytest.approx(sum(similar) / 3)
    with pytest.raises(InputError, match="no draws"):
        over_draws(psnr, samples[:0], reference)


def test_diversity_is_the_unbiased_deviation_in_grey_levels() -> None:
    base = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    offsets = torch.tensor([-1.0, 0.0, 1.0]).double().reshape(3, 1, 1, 1, 1)
    spread = torch.tensor([0.1, 0.02]).double().reshape(2, 1, 1, 1)
    # Three draws d apart have an unbiased deviation of d; the biased one is sqrt(2/3) of it.
    values = diversity(base + spread * offsets)
    assert values.tolist() == pytest.approx([25.5, 5.1])
    # Averaged over pixels are deviations, not variances.
    half = spread * (torch.arange(8) < 4)
    assert diversity(base + half * offsets).tolist() == pytest.approx([12.75, 2.55])
    assert diversity(base.expand(4, -1, -1, -1, -1)).tolist() == pytest.approx([0, 0])
    with pytest.raises(InputError, match="1 draws, at least 2"):
        diversity(base[None])
