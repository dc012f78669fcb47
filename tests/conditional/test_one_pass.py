"""Bounds in one pass: where they start, what they converge to, and that they are calibrated."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import certes
from certes.conditional.model import ConditionalModel
from certes.conditional.one_pass import (
    OnePass,
    OnePassModel,
    QuantileLoss,
    fine_tuning,
    load_bounds,
    save_bounds,
)
from certes.conditional.presets import PRESETS
from certes.conditional.recipe import Conditional
from certes.conditional.restore import condition_label
from certes.conditional.tasks import Denoising
from certes.data.bundled import bundled_pictures
from certes.data.patches import PatchDataset
from certes.errors import CertesError, InputError, ModelError
from certes.intervals.bounds import Bounds, Provenance
from certes.intervals.cards import Calibration
from certes.networks.bounds import HEADS, KIND, BoundsNetwork, pinball, three_heads
from certes.networks.model import CARD, kind_of
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


@pytest.fixture(scope="module")
def patches() -> PatchDataset:
    return PatchDataset([(p.pixels * 255).byte() for p in bundled_pictures()], 28, 0.5)


@pytest.fixture(scope="module")
def run(
    model: ConditionalModel, patches: PatchDataset, tmp_path_factory: pytest.TempPathFactory
) -> Run[BoundsNetwork]:
    """A finished run of the real loop."""
    sizes = {"patch": 28, "batch": 8, "warmup": 2, "precision": "no", "learning_rate": 2e-3}
    config = fine_tuning(model, ALPHA, steps=60, checkpoint_every=60, sample_every=60, **sizes)
    out = tmp_path_factory.mktemp("bounds")
    made = Run(OnePass(config, model), patches, out, resume=False)
    for _ in made.steps():
        pass
    return made


def measured(patches: PatchDataset, step: int, count: int, noise: float) -> tuple[Tensor, Tensor]:
    """New pictures, and conditions with some noise."""
    x, generator = patches.batch(step, count, 99), torch.Generator().manual_seed(step)
    return x, x + noise * torch.randn(x.shape, generator=generator)


def test_training_lowers_the_loss(
    model: ConditionalModel, run: Run[BoundsNetwork], patches: PatchDataset
) -> None:
    x, y = measured(patches, 0, 64, Denoising().noise)

    def cost(network: BoundsNetwork) -> list[float]:
        seen, told = network.inputs(y)
        batch = NoisyBatch(x, seen, x, told, told[:, 0], told[:, 0])
        with torch.no_grad():
            losses = QuantileLoss(network, ALPHA)(network.net(seen, told), batch)
        return [float(part.mean()) for part in (losses.each, losses.simple, losses.variance)]

    before, after = cost(heads(model)), cost(run.averaged())
    assert all(new < 0.5 * old for new, old in zip(after, before, strict=True))
    assert after[0] == pytest.approx(after[1] + after[2])
    lower, _, upper = run.averaged()(y).unbind(1)
    assert float((lower < upper).double().mean()) > 0.9
    assert (run.out / "samples-60.png").is_file()


def test_a_folder_answers_as_its_network(
    model: ConditionalModel, run: Run[BoundsNetwork], tmp_path: Path
) -> None:
    network, y = run.averaged(), conditions()
    save_bounds(tmp_path, network, model, ALPHA, {"name": "bounds"})
    loaded = load_bounds(tmp_path, "cpu")
    bounds, expected = loaded(y), network(y).clamp(0, 1)
    torch.testing.assert_close(bounds.estimate, expected[:, 1])
    torch.testing.assert_close(bounds.lower, torch.minimum(expected[:, 0], expected[:, 1]))
    torch.testing.assert_close(bounds.upper, torch.maximum(expected[:, 2], expected[:, 1]))
    assert bounds.provenance == Provenance(
        loaded.hash, condition_label(model), None, "n-conffusion", 1, None, ALPHA
    )
    torch.testing.assert_close(loaded(y.numpy()).upper, bounds.upper)
    assert kind_of(tmp_path) == KIND
    with pytest.raises(ModelError, match="load_bounds"):
        certes.load(tmp_path)


def test_a_hash_is_of_all_that_the_bounds_depend_on(
    model: ConditionalModel, tmp_path: Path
) -> None:
    def mark(network: BoundsNetwork, alpha: float = ALPHA, name: str = "bounds") -> str:
        save_bounds(tmp_path, network, model, alpha, {"name": name})
        return load_bounds(tmp_path, "cpu").hash

    network = heads(model)
    first = mark(network)
    assert mark(network) == mark(network, name="another") == first != model.hash
    elsewhere = BoundsNetwork(network.net, network.x, network.y, network.sigma_x / 2)
    changed = [mark(network, alpha=0.1), mark(elsewhere)]
    with torch.no_grad():
        network.net.state_dict()["conv_out.bias"][0] += 1e-3
    changed.append(mark(network))
    assert len({first, *changed}) == 4


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ((0.2, 0.5, 0.6), (0.2, 0.5, 0.6)),
        ((0.8, 0.5, 0.1), (0.5, 0.5, 0.5)),  # crossed
        ((0.6, 0.5, 0.9), (0.5, 0.5, 0.9)),
        ((-0.3, 0.5, 1.7), (0.0, 0.5, 1.0)),
        ((-0.3, -0.1, -0.2), (0.0, 0.0, 0.0)),
    ],
)
def test_whatever_the_heads_say_is_ordered_and_cut(
    model: ConditionalModel, said: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    network = heads(model)
    ratio = network.sigma_x / network.x.scale
    z0 = (torch.tensor(said) - network.x.center) / network.x.scale
    with torch.no_grad():
        network.net.conv_out.weight.zero_()
        # The velocity of z_0 where z_t = 0.
        velocity = -z0 * (1 + ratio**2) ** 0.5 / ratio
        bias = network.net.state_dict()["conv_out.bias"]
        bias.copy_(velocity.repeat_interleave(network.net.config.stem**2))
    bounds = OnePassModel("constant", network, Denoising(), ALPHA, "given denoise", "c")(
        conditions()
    )
    for end, value in zip((bounds.lower, bounds.estimate, bounds.upper), expected, strict=True):
        torch.testing.assert_close(end, torch.full_like(end, value), rtol=0, atol=1e-5)


def test_calibrated_bounds_keep_their_promise(
    run: Run[BoundsNetwork], patches: PatchDataset
) -> None:
    noise = Denoising().noise
    raw = OnePassModel("raw", run.averaged(), Denoising(), ALPHA, "given denoise", "raw")
    (known, y_known), (new, y_new) = (measured(patches, step, 100, noise) for step in (1, 2))
    bounds = raw(y_new)

    def risk(interval: Bounds) -> float:
        return 1 - float(interval.contains(new).double().mean())

    def card(truth: Tensor, y: Tensor) -> Calibration:
        return certes.calibrate(raw(y), truth, alpha=ALPHA, delta=0.1, family="additive")

    # Quantile heads know what they aim at; before, all three were one and missed everything.
    assert risk(bounds) == pytest.approx(ALPHA, abs=0.05)
    right = card(known, y_known)
    assert risk(right(bounds)) <= ALPHA
    # Not by answering everything.
    assert float(right(bounds).width.mean()) < 0.2
    # Negative control: calibrated on conditions with less noise, they do not keep it.
    wrong = card(*measured(patches, 1, 100, noise / 5))
    assert risk(wrong(bounds)) > ALPHA
    other = replace(bounds.provenance, model="another")  # pyright: ignore
    with pytest.raises(CertesError, match="model"):
        right(replace(bounds, provenance=other))


def test_what_cannot_be(model: ConditionalModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="alpha: 1"):
        fine_tuning(model, 1.0)
    problem = pairs()
    exact_model = ConditionalModel(
        "exact", problem.denoiser(), Denoising(), model.estimator, 1, {}, "exact"
    )
    with pytest.raises(ModelError, match="no network"):
        fine_tuning(exact_model)
    save_bounds(tmp_path, heads(model), model, ALPHA, {"name": "bounds"})
    card = json.loads((tmp_path / CARD).read_text())
    (tmp_path / CARD).write_text(json.dumps({**card, "kind": "conditional"}))
    with pytest.raises(ModelError, match=f"a '{KIND}' one"):
        load_bounds(tmp_path)
    kept = {key: value for key, value in card.items() if key not in ("x", "alpha")}
    (tmp_path / CARD).write_text(json.dumps(kept))
    with pytest.raises(ModelError, match="does not say x, alpha"):
        load_bounds(tmp_path)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.zeros(1, 28, 28), r"shape \(1, 28, 28\); wanted a batch"),
        (torch.zeros(0, 1, 28, 28), "wanted a batch"),
        (torch.zeros(1, 1, 28, 28, dtype=torch.uint8), "uint8; wanted float"),
        (torch.zeros(1, 3, 28, 28), "3 channel"),
        (torch.full((1, 1, 28, 28), torch.nan), "not finite; only 'inpaint'"),
    ],
)
def test_conditions_that_cannot_be(model: ConditionalModel, y: Tensor, message: str) -> None:
    raw = OnePassModel("raw", heads(model), Denoising(), ALPHA, "given denoise", "raw")
    with pytest.raises(InputError, match=message):
        raw(y)
