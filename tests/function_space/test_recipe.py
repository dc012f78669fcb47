"""Training on subsets of coordinates: what a step sees, asks and learns from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from certes.errors import InputError
from certes.function_space.autoencoder import unpack
from certes.function_space.presets import PRESETS, load_function_config
from certes.function_space.recipe import CoordinateMatching, FunctionRecipe
from certes.function_space.training_config import FunctionConfig
from certes.training.averaging import WeightAverage
from certes.training.noising import NoisyBatch
from certes.training.times import Drawn

TINY = PRESETS["tiny-functions"]
COUNT = 6


def drawn(t: float = 0.4, count: int = COUNT) -> Drawn:
    times = torch.full((count,), t, dtype=torch.float64)
    return Drawn(times, torch.ones(count))


def step(recipe: FunctionRecipe, patches: Tensor, seed: int = 0, t: float = 0.4) -> NoisyBatch:
    generator = torch.Generator().manual_seed(seed)
    return recipe.noisy(recipe.build(), patches, drawn(t, len(patches)), generator, 0)


@pytest.fixture
def patches() -> Tensor:
    return torch.rand(COUNT, 1, 16, 16, generator=torch.Generator().manual_seed(1))


def changed(**fields: Any) -> FunctionRecipe:
    return FunctionRecipe(replace(TINY, **fields))


def test_a_step_looks_at_its_share(patches: Tensor) -> None:
    for share, points in ((0.25, 64), (0.06, 15), (1.0, 256)):
        recipe = changed(share=share)
        batch = step(recipe, patches)
        assert batch.target.shape == (COUNT, 1, points, 1)
        output = recipe.build().net(batch.x_t, batch.conditioning)
        assert output.shape == (COUNT, 2, points, 1)
    first, other = step(changed(), patches), step(changed(sequence="low-discrepancy"), patches)
    assert not torch.equal(first.x_t, other.x_t)


def test_values_are_those_of_the_process_at_these_points(patches: Tensor) -> None:
    """With nothing but noise or nothing but signal, values and targets are known."""
    recipe = changed(prediction="x0")
    reading, lattice = recipe.reading, recipe.lattice
    z0 = reading.normalised(patches)
    batch = step(recipe, patches, t=1e-4)
    seen, clean = unpack(batch.x_t, TINY.operator())
    assert clean is not None
    for (values, points), wanted in ((seen, reading.mollifier(z0)), (clean, reading.mollifier(z0))):
        torch.testing.assert_close(values, points.values(wanted), atol=5e-3, rtol=0)
    at = batch.target.squeeze(-1).transpose(1, 2)
    torch.testing.assert_close(at, seen[1].values(z0))
    # The encoder looks elsewhere.
    assert not torch.equal(seen[1].positions, clean[1].positions)
    noise = step(changed(prediction="noise", share=1.0), patches.repeat(40, 1, 1, 1), t=0.999)
    seen, _ = unpack(noise.x_t, TINY.operator())
    torch.testing.assert_close(seen[0].squeeze(-1), noise.target[:, 0, :, 0], atol=0.05, rtol=0)
    variance = noise.target.var(dim=0).view(lattice.shape)
    assert variance.mean() == pytest.approx(1, abs=0.05)
    assert variance[0, 0] == pytest.approx(1, abs=0.4)


def test_the_loss_is_at_the_points_only(patches: Tensor) -> None:
    batch = step(changed(), patches)
    criterion = CoordinateMatching(1)
    output = torch.cat([batch.target, torch.zeros_like(batch.target)], dim=1)
    assert criterion(output, batch).simple.abs().max() == 0
    output[2, 0, 5, 0] += 3.0
    losses = criterion(output, batch)
    wanted = torch.zeros(COUNT)
    wanted[2] = 9 / 64
    torch.testing.assert_close(losses.simple, wanted)
    # Pixels that are not among the points change nothing that is compared at the points, but by
    # what blurring brings of them.
    seen, _ = unpack(batch.x_t, TINY.operator())
    far = replace(TINY, mollifier_width=0.0)
    cells = seen[1].cells
    assert cells is not None
    elsewhere = torch.ones(COUNT, 256, dtype=torch.bool).scatter(1, cells, False)
    other = torch.where(elsewhere.view_as(patches), patches + 0.5, patches)
    first, second = (step(FunctionRecipe(far), x) for x in (patches, other))
    assert torch.equal(first.target, second.target)
    moved = torch.where(elsewhere.view_as(patches), patches, patches + 0.5)
    assert not torch.equal(first.target, step(FunctionRecipe(far), moved).target)


def test_the_likelihood_finds_the_variance_and_moves_no_mean() -> None:
    target = torch.zeros(1, 1, 4000, 1)
    batch = NoisyBatch(target, target, target, target, torch.zeros(1), torch.ones(1))
    residual = 0.3 * torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    costs: dict[float, float] = {}
    for variance in (0.045, 0.09, 0.18):
        log = torch.full_like(target, variance).log()
        costs[variance] = float(
            CoordinateMatching(1)(torch.cat([residual, log], 1), batch).variance
        )
    assert min(costs, key=costs.__getitem__) == 0.09
    mean = residual.clone().requires_grad_()
    log = torch.zeros_like(target)
    each = CoordinateMatching(1)(torch.cat([mean, log], 1), batch).each
    (slope,) = torch.autograd.grad(each.sum(), mean)
    torch.testing.assert_close(slope, 2 * residual / 4000)


def test_withheld_codes(patches: Tensor) -> None:
    """A code that is withheld changes nothing; one that is told does."""
    recipe = changed()
    net = recipe.build().net
    for weights in net.parameters():
        if not weights.any():
            torch.nn.init.normal_(weights, std=0.05)
    for withheld, told in ((0.0, 1.0), (1.0, 0.0)):
        batch = step(changed(withheld=withheld), patches)
        assert torch.equal(batch.conditioning[:, 1], torch.full((COUNT,), told))
        other = batch.x_t.clone()
        other[:, 3] += 0.3  # values that the encoder sees
        answers = [net(x, batch.conditioning) for x in (batch.x_t, other)]
        assert torch.equal(*answers) == (told == 0.0)
    many = step(changed(withheld=0.3), patches.repeat(100, 1, 1, 1))
    assert many.conditioning[:, 1].mean() == pytest.approx(0.7, abs=0.06)


def test_the_encoder_is_trained_and_averaged(patches: Tensor) -> None:
    """The original's averages hold the operator network only."""
    recipe = changed(withheld=0.0)
    net = recipe.build().net
    average = WeightAverage(net, 0.5, ramp=False)
    names = set(average.weights)
    assert names == set(net.state_dict())
    encoder = {name for name in names if name.startswith("encoder.")}
    assert encoder
    before = {name: average.weights[name].clone() for name in names}
    with torch.no_grad():
        for weights in net.parameters():
            weights.add_(1.0)
    average.update(net, 1)
    for name in encoder:
        torch.testing.assert_close(average.weights[name], before[name] + 0.5)
    batch = step(recipe, patches)
    loss = recipe.objective(recipe.build(), torch.device("cpu"))(
        net(batch.x_t, batch.conditioning), batch
    )
    loss.each.sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in net.encoder.parameters())


def test_seeds(patches: Tensor) -> None:
    first, again, other = (step(changed(), patches, seed) for seed in (0, 0, 1))
    assert torch.equal(first.x_t, again.x_t)
    assert not torch.equal(first.x_t, other.x_t)
    nets = [recipe.build().net.state_dict() for recipe in (changed(), changed())]
    assert all(torch.equal(nets[0][name], nets[1][name]) for name in nets[0])


def test_configurations(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(TINY.to_dict()))
    assert load_function_config(str(path)) == TINY
    assert load_function_config("nuclei") is None
    path.write_text(json.dumps({**TINY.to_dict(), "shares": 1}))
    with pytest.raises(InputError, match="does not describe a run"):
        load_function_config(str(path))
    path.write_text("no JSON")
    assert load_function_config(str(path)) is None
    for fields, named in (
        ({"share": 0.0}, "share: 0.0"),
        ({"withheld": 1.5}, "withheld: 1.5"),
        ({"patch": 24}, "patch: 24 pixels; the network's domain is 16"),
    ):
        with pytest.raises(InputError, match=named):
            FunctionConfig(**{**TINY.to_dict(), **fields})
