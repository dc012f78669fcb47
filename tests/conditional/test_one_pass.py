"""Bounds in one pass: where they start, what they converge to, and that they are calibrated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import certes
from certes.conditional.model import ConditionalModel
from certes.conditional.one_pass import (
    KIND,
    OnePass,
    OnePassModel,
    QuantileLoss,
    fine_tuning,
    load_bounds,
    save_bounds,
)
from certes.conditional.presets import PRESETS
from certes.conditional.recipe import Conditional
from certes.conditional.tasks import Denoising
from certes.data.bundled import bundled_pictures
from certes.data.patches import PatchDataset
from certes.errors import CertesError, InputError, ModelError
from certes.networks.bounds import HEADS, BoundsNetwork, pinball, three_heads
from certes.training.loop import Run
from certes.training.noising import NoisyBatch

from .conftest import pairs

ALPHA = 0.2


@pytest.fixture(scope="module")
def model() -> ConditionalModel:
    """An untrained network whose last layer is not zero, for denoising grey pictures."""
    recipe = Conditional(PRESETS["tiny-conditional"])
    denoiser = recipe.build()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        weight = denoiser.net.conv_out.weight
        weight.copy_(0.05 * torch.randn(weight.shape, generator=generator))
    denoiser.net.eval()
    return ConditionalModel("tiny", denoiser, Denoising(), recipe.estimator, 1, {}, "tiny")


def conditions(count: int = 3) -> Tensor:
    return torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(2))


def heads(model: ConditionalModel) -> BoundsNetwork:
    denoiser = model.denoiser
    return three_heads(denoiser, float(model.estimator.x.noise_level(1.0)))  # pyright: ignore


def test_at_first_every_head_is_the_networks_own_estimate(model: ConditionalModel) -> None:
    network, y = heads(model), conditions()
    sigma = torch.full((len(y),), network.sigma_x)
    # x_t at its expected value, which the largest noise makes meaningless.
    x_t = torch.full_like(y, network.x.center)
    estimate = model(x_t, sigma, y, torch.zeros(len(y))).x.mean
    answers = network(y)
    assert answers.shape == (len(y), HEADS, 1, 28, 28)
    for head in answers.unbind(1):
        torch.testing.assert_close(head, estimate, rtol=1e-4, atol=1e-4)
    assert float(estimate.std()) > 1e-3


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_the_quantile_loss_is_least_at_the_quantile(level: float) -> None:
    truth = torch.linspace(0, 1, 1001, dtype=torch.float64)
    answers = torch.linspace(0, 1, 201, dtype=torch.float64)
    costs = torch.stack([pinball(answer, truth, level).mean() for answer in answers])
    assert float(answers[costs.argmin()]) == pytest.approx(level, abs=0.006)


def test_the_loss_is_minimised_by_the_conditional_quantiles(model: ConditionalModel) -> None:
    """Gaussian pairs: linear heads fitted by the real loss find m(y) and m(y) -+ z s."""
    problem = pairs()
    x0, y = problem.sample(4000, seed=0)
    mean, covariance = problem.posterior(y)
    deviation = covariance.diagonal().sqrt()
    network = heads(model)
    loss = QuantileLoss(network, ALPHA)
    # Affine in y for each head and pixel; the answer of a network is -(x - c) / s nearly.
    weights = torch.zeros(HEADS, 2, 2, dtype=torch.float64, requires_grad=True)
    offsets = torch.zeros(HEADS, 2, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights, offsets], max_iter=150, line_search_fn="strong_wolfe")
    flat = (y - 0.4).flatten(1)
    batch = NoisyBatch(x0, y, x0, flat, flat[:, 0], flat[:, 0])

    def answer() -> Tensor:
        return (torch.einsum("hij,bj->bhi", weights, flat) + offsets).reshape(-1, HEADS, 1, 2)

    def closure() -> Tensor:
        optimiser.zero_grad()
        total = exact(loss, answer(), batch).mean()
        total.backward()
        return total

    optimiser.step(closure)
    lower, estimate, upper = network.read(answer().detach()).flatten(2).unbind(1)
    z = 1.2815515655446004
    m = mean.flatten(1)
    for found, expected in ((estimate, m), (lower, m - z * deviation), (upper, m + z * deviation)):
        assert float((found - expected).abs().mean()) < 0.1 * float(deviation.mean())
    # Negative control: the median is not the lower quantile.
    assert float((lower - m).abs().mean()) > float(deviation.mean())


def exact(loss: QuantileLoss, output: Tensor, batch: NoisyBatch) -> Tensor:
    """The real loss in float64."""

    class Wide(Tensor):
        def float(self) -> Tensor:
            return self

    return loss(output.as_subclass(Wide), batch).each.as_subclass(Tensor)


def test_training_lowers_the_loss_and_the_folder_answers_alike(
    model: ConditionalModel, tmp_path: Path
) -> None:
    pictures = [(p.pixels * 255).byte() for p in bundled_pictures()]
    data = PatchDataset(pictures, 28, 0.5)
    sizes = {"patch": 28, "batch": 8, "warmup": 2, "precision": "no", "learning_rate": 2e-3}
    config = fine_tuning(model, ALPHA, steps=60, checkpoint_every=60, sample_every=60, **sizes)
    recipe = OnePass(config, model)
    run = Run(recipe, data, tmp_path / "run", resume=False)
    losses = [float(loss) for loss in run.steps()]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    assert (tmp_path / "run" / "samples-60.png").is_file()
    network = run.averaged()
    save_bounds(tmp_path / "model", network, model, ALPHA, {"name": "bounds"})
    loaded, y = load_bounds(tmp_path / "model", "cpu"), conditions()
    bounds = loaded(y)
    expected = network(y).clamp(0, 1)
    torch.testing.assert_close(bounds.estimate, expected[:, 1])
    assert bounds.provenance is not None
    assert bounds.provenance.sampler == "n-conffusion"
    assert load_bounds(tmp_path / "model", "cpu").hash == loaded.hash != model.hash


def test_calibrated_bounds_keep_their_promise(model: ConditionalModel) -> None:
    one_pass = OnePassModel("raw", heads(model), Denoising(), ALPHA, "given denoise", "raw")
    x = 0.3 + 0.4 * torch.rand(80, 1, 28, 28, generator=torch.Generator().manual_seed(3))
    bounds = one_pass(x)
    part = [slice(None, 50), slice(50, None)]
    known, new = (
        certes.Bounds(bounds.lower[s], bounds.estimate[s], bounds.upper[s], bounds.provenance)
        for s in part
    )
    # Three equal heads are intervals of no width: negative control, and what an additive family
    # can still make right.
    assert float(new.contains(x[part[1]]).double().mean()) < 0.5
    card = certes.calibrate(known, x[part[0]], alpha=ALPHA, delta=0.1, family="additive")
    risk = 1 - float(card(new).contains(x[part[1]]).double().mean())
    assert risk <= ALPHA
    other = replace(known.provenance, model="another")  # pyright: ignore
    with pytest.raises(CertesError, match="model"):
        card(replace(new, provenance=other))


def test_what_cannot_be(model: ConditionalModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="alpha: 1"):
        fine_tuning(model, 1.0)
    problem = pairs()
    exact_model = ConditionalModel(
        "exact", problem.denoiser(), Denoising(), model.estimator, 1, {}, "exact"
    )
    with pytest.raises(ModelError, match="no network"):
        fine_tuning(exact_model)
    (tmp_path / "certes.json").write_text('{"kind": "conditional"}')
    with pytest.raises(ModelError, match=f"a '{KIND}' one"):
        load_bounds(tmp_path)
