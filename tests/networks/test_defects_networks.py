"""Defects of published evaluations of networks, each beside what is done here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from certes.errors import ModelError
from certes.networks import NetworkDenoiser, UNet, load
from certes.networks.model import save_model


def test_defect_a_model_that_is_evaluated_as_it_is_trained(
    make_denoiser: Callable[..., NetworkDenoiser], tmp_path: Path
) -> None:
    """With dropout on every call is another network's. A loaded model is at rest,
    and one that is not is refused."""
    fresh = make_denoiser(dropout=0.5)
    fresh.net.train()
    save_model(tmp_path / "model", fresh, {"name": "small", "data": "none"}, torch.float32)
    x, sigma = torch.rand(1, 1, 16, 16), torch.tensor([0.3])

    def answers_alike(net: UNet) -> bool:
        with torch.no_grad():
            return torch.equal(net(x, sigma), net(x, sigma))

    assert answers_alike(load(tmp_path / "model", device="cpu", dtype=torch.float32).net)
    assert not answers_alike(fresh.net)
    with pytest.raises(ModelError, match="with dropout on"):
        fresh(x, sigma)
