"""Weights of pictures against the formulas of their papers."""

from __future__ import annotations

import pytest
import torch

from certes.training.unconditional import Unconditional
from certes.training.weights import Weights, min_snr

from .conftest import plain, shrunk

CPU = torch.device("cpu")
T = torch.linspace(0.02, 0.98, 30, dtype=torch.float64)


@pytest.mark.parametrize("prediction", ["noise", "x0", "v"])
def test_min_snr_is_the_table_of_its_paper(prediction: str) -> None:
    """min(SNR, 5) over 1, SNR and SNR + 1 for x_0, noise and velocity (section 3.4)."""
    denoiser = Unconditional(shrunk(prediction=prediction)).build()
    alpha, sigma = denoiser.schedule.alpha(T), denoiser.schedule.sigma(T)
    snr = (alpha / sigma) ** 2
    over = {"x0": torch.ones_like(snr), "noise": snr, "v": snr + 1}[prediction]
    torch.testing.assert_close(min_snr(denoiser, T), snr.clamp(max=5) / over)
    torch.testing.assert_close(Weights(denoiser, "min-snr", CPU)(T, None), min_snr(denoiser, T))


def test_level_weights_even_out_the_levels() -> None:
    """The optimum of e^-u L + u over u is log E[L]: weighted, every level costs 1."""
    weights = Weights(Unconditional(shrunk(**plain())).build(), "level", CPU)
    assert torch.equal(torch.as_tensor(weights(T, None)), torch.ones_like(T))
    squared = 0.1 + T**2
    for _ in range(3):
        weights.update(T, squared)
    torch.testing.assert_close(weights(T, None) * squared, torch.ones_like(T))
    u = squared.log().requires_grad_()
    (torch.exp(-u) * squared + u).sum().backward()
    torch.testing.assert_close(u.grad, torch.zeros_like(T))


def test_picture_weights_are_relative_to_the_batch() -> None:
    weights = Weights(Unconditional(shrunk()).build(), "picture", CPU)
    variance = torch.tensor([1.0, 4.0, 16.0])[:, None, None, None].expand(3, 1, 4, 4)
    weight = torch.as_tensor(weights(T[:3], variance))
    torch.testing.assert_close(weight / weight[0], torch.tensor([1.0, 0.5, 0.25]))
    assert float(weight.mean()) == pytest.approx(1)
