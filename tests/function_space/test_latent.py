"""Codes: learned by the training loop, drawn with the law that they had, kept beside the model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from certes.errors import InputError, ModelError
from certes.function_space.latent import (
    LATENT,
    LATENT_CONFIG,
    LatentNetwork,
    LatentPrior,
    LatentShape,
    load_latent,
    save_latent,
)
from certes.function_space.latent_recipe import (
    CodeBatches,
    LatentConfig,
    LatentRecipe,
    codes_of,
    orientations,
)
from certes.training.loop import Run

from .conftest import Make

Z = 16


def clusters(count: int) -> Tensor:
    """Codes around two places, far from 0 and of unequal scales."""
    generator = torch.Generator().manual_seed(0)
    side = torch.where(torch.rand(count, 1, generator=generator) < 0.3, -1.0, 1.0)
    noise = torch.randn(count, Z, generator=generator)
    return 5 + torch.logspace(-1, 1, Z) * (2 * side + 0.5 * noise)


def config(**more: object) -> LatentConfig:
    fields = {"batch": 64, "steps": 250, "warmup": 20, "sample_every": 10**6, **more}
    return LatentConfig(network={"latent": Z, "width": 64, "layers": 3}, **fields)  # pyright: ignore


def share_of_first(codes: Tensor) -> tuple[float, float]:
    """How many codes are in the first cluster, and how far from both a code is at most."""
    side = (codes - 5) / torch.logspace(-1, 1, Z) / 2
    middle = side.mean(1)
    return float((middle < 0).float().mean()), float((middle.abs() - 1).abs().quantile(0.9))


def test_learns_the_law_of_codes(make: Make, tmp_path: Path) -> None:
    batches = CodeBatches(clusters(2000))
    recipe = LatentRecipe(config(), batches, make(latent=Z))
    prior = Run(recipe, batches, tmp_path, resume=False).train()
    drawn = prior.sample(400, seed=1)
    share, off = share_of_first(drawn)
    assert share == pytest.approx(0.3, abs=0.1)
    assert off < 0.4
    spread = drawn.std(0) / clusters(2000).std(0)
    assert bool(((spread > 0.8) & (spread < 1.2)).all())
    # Without training, codes fall between the two.
    assert share_of_first(recipe.build().sample(400, seed=1))[1] > 0.5
    assert (tmp_path / "samples-250.png").is_file()
    # Beside the model, and back.
    save_latent(tmp_path, prior)
    again = load_latent(tmp_path)
    torch.testing.assert_close(again.sample(3, seed=2), prior.sample(3, seed=2))
    torch.testing.assert_close(prior.sample(5, seed=2)[:3], prior.sample(3, seed=2))


def test_codes_are_standardised() -> None:
    batches = CodeBatches(clusters(500))
    some = batches.batch(3, 400, 0)
    assert some.shape == (400, Z, 1, 1)
    torch.testing.assert_close(some, batches.batch(3, 400, 0))
    assert (some - batches.batch(4, 400, 0)).abs().max() > 0
    assert torch.equal(batches.batch(3, 400, 0, slice(1, None, 2)), some[1::2])
    assert bool((some.mean((0, 2, 3)).abs() < 0.2).all())
    net = LatentNetwork(LatentShape(Z))
    prior = LatentRecipe(config(), batches, None).build()  # pyright: ignore
    assert isinstance(prior, LatentPrior)
    assert net.shape.latent == Z
    codes = clusters(7)
    torch.testing.assert_close(prior.codes(prior.standardised(codes)), codes)


def test_each_layer_sees_the_code() -> None:
    net = LatentNetwork(LatentShape(Z, width=32, layers=3))
    torch.nn.init.normal_(net.project.weight)
    # With every hidden way into a layer cut, the code still gets through.
    for layer in (net.layers[1], net.layers[2]):
        torch.nn.init.zeros_(layer.weight[:, :32])  # pyright: ignore
    code = torch.randn(1, Z, 1, 1).requires_grad_()
    net(code, torch.tensor([500.0])).sum().backward()
    assert code.grad is not None
    assert bool((code.grad != 0).all())


def test_codes_of_all_orientations(make: Make) -> None:
    patches = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))

    class Data:
        def batch(self, step: int, batch_size: int, seed: int) -> Tensor:
            return patches[:batch_size]

    turned = orientations(patches)
    assert len({tuple(x.flatten().tolist()) for x in turned}) == 8
    codes = codes_of(make(), Data(), 3)
    assert codes.shape == (24, 32)
    torch.testing.assert_close(codes[3:6], make().encode(patches.rot90(1, (2, 3))))
    torch.testing.assert_close(codes[12:15], make().encode(patches.flip(3)))


def test_refuses(make: Make, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least two"):
        CodeBatches(torch.zeros(1, Z))
    with pytest.raises(ModelError, match="at least 1"):
        LatentShape(0)
    with pytest.raises(ModelError, match="missing"):
        load_latent(tmp_path)
    prior = LatentRecipe(config(), CodeBatches(clusters(9)), make(latent=Z)).build()
    save_latent(tmp_path, prior)
    (tmp_path / LATENT_CONFIG).write_text('{"shape": {"latent": 32}}')
    with pytest.raises(ModelError, match="describes no codes"):
        load_latent(tmp_path)
    assert (tmp_path / LATENT).is_file()
    with pytest.raises(ModelError, match="not restored"):
        prior.covariance(prior(torch.zeros(1, Z, 1, 1), torch.ones(1)), torch.ones(1))
