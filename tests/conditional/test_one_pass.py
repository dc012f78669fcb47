"""Bounds in one pass: where they start, what they learn, their folders, and that they calibrate."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import certes
from certes.conditional.model import ConditionalModel
from certes.conditional.one_pass.levels import CANDIDATES, best_level
from certes.conditional.one_pass.model import (
    OnePassModel,
    load_one_pass,
    one_pass_model,
    save_one_pass,
)
from certes.conditional.one_pass.recipe import HeadLoss, OnePass
from certes.conditional.one_pass.sampled import SampledBounds, sample_bounds_of
from certes.conditional.one_pass.starts import from_conditional, from_nothing, from_pictures
from certes.conditional.presets import PRESETS
from certes.conditional.recipe import Conditional
from certes.conditional.restore import label_of
from certes.conditional.tasks import Deblurring, Denoising, Drawing, Inpainting, SuperResolving
from certes.data.bundled import bundled_pictures
from certes.data.patches import PatchDataset
from certes.errors import CertesError, InputError, ModelError
from certes.intervals.bounds import Bounds, Provenance
from certes.intervals.cards import Calibration
from certes.networks.heads import HEADS
from certes.networks.model import CARD, kind_of
from certes.networks.one_pass import KIND, OnePassNetwork, PairFront
from certes.training.loop import Run
from certes.training.noising import NoisyBatch

from .conftest import pairs

ALPHA = 0.2
SIZES = {"patch": 28, "batch": 8, "warmup": 2, "precision": "no", "learning_rate": 2e-3}


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
    return ConditionalModel("tiny", denoiser, Denoising(), recipe.estimator, 1, {}, "71c9")


@pytest.fixture(scope="module")
def patches() -> PatchDataset:
    return PatchDataset([(p.pixels * 255).byte() for p in bundled_pictures()], 28, 0.5)


def recipe_of(model: ConditionalModel, head: str = "quantiles", steps: int = 60) -> OnePass:
    often = {"checkpoint_every": steps, "sample_every": steps}
    return from_conditional(model, head, ALPHA, steps=steps, **often, **SIZES)


@pytest.fixture(scope="module")
def run(
    model: ConditionalModel, patches: PatchDataset, tmp_path_factory: pytest.TempPathFactory
) -> Run[OnePassNetwork]:
    """A finished run of the real loop."""
    made = Run(recipe_of(model), patches, tmp_path_factory.mktemp("bounds"), resume=False)
    for _ in made.steps():
        pass
    return made


def conditions(count: int = 3) -> Tensor:
    return torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(2))


def measured(patches: PatchDataset, step: int, count: int, noise: float) -> tuple[Tensor, Tensor]:
    """New pictures, and conditions with some noise."""
    x, generator = patches.batch(step, count, 99), torch.Generator().manual_seed(step)
    return x, x + noise * torch.randn(x.shape, generator=generator)


def test_at_first_every_end_is_the_networks_own_estimate(model: ConditionalModel) -> None:
    start, y = recipe_of(model).start, conditions()
    assert isinstance(start.front, PairFront)
    sigma = torch.full((len(y),), start.front.sigma_x)
    # x_t at its expected value, which the largest noise makes meaningless.
    x_t = torch.full_like(y, start.front.x.center)
    estimate = model(x_t, sigma, y, torch.zeros(len(y))).x.mean
    for part in start(y).unbind(1):
        torch.testing.assert_close(part, estimate, rtol=1e-4, atol=1e-4)
    assert float(estimate.std()) > 1e-3


@pytest.mark.parametrize("head", HEADS)
def test_every_head_is_trained_by_the_real_loop(
    model: ConditionalModel, patches: PatchDataset, tmp_path: Path, head: str
) -> None:
    recipe, data = recipe_of(model, head, steps=40), patches
    if head == "sampled":
        made = sample_bounds_of(
            model, patches, 16, tmp_path / "b.safetensors", samples=4, steps=2, alpha=ALPHA
        )
        data = made
    run = Run(recipe, data, tmp_path, resume=False)
    batch = recipe.noisy(
        recipe.build(),
        data.batch(10_000, 16, 0),
        run.times.draw(16, torch.Generator().manual_seed(0)),
        torch.Generator().manual_seed(0),
        0,
    )

    def cost(network: OnePassNetwork) -> float:
        with torch.no_grad():
            losses = HeadLoss(network)(network.net(batch.x_t, batch.conditioning), batch)
        return float(losses.each.mean())

    before = cost(recipe.start)
    for _ in run.steps():
        pass
    assert cost(run.averaged()) < before - 0.03 * abs(before)
    assert (tmp_path / "samples-40.png").is_file()


def test_training_lowers_both_parts_of_the_quantile_loss(
    model: ConditionalModel, run: Run[OnePassNetwork], patches: PatchDataset
) -> None:
    x, y = measured(patches, 0, 64, Denoising().noise)

    def cost(network: OnePassNetwork) -> list[float]:
        seen, told = network.front.inputs(y)
        batch = NoisyBatch(x, seen, x, told, told[:, 0], told[:, 0])
        with torch.no_grad():
            losses = HeadLoss(network)(network.net(seen, told), batch)
        ends = losses.each - losses.simple
        return [float(part.mean()) for part in (losses.simple, ends)]

    before, after = cost(recipe_of(model).start), cost(run.averaged())
    assert all(0 < new < 0.5 * old for new, old in zip(after, before, strict=True))
    lower, _, upper = run.averaged()(y).unbind(1)
    assert float((lower < upper).double().mean()) > 0.9


def test_a_folder_answers_as_its_network(
    model: ConditionalModel, run: Run[OnePassNetwork], tmp_path: Path
) -> None:
    network, y = run.averaged(), conditions()
    save_one_pass(tmp_path, network, recipe_of(model), {"name": "bounds"})
    loaded = load_one_pass(tmp_path, "cpu")
    bounds, expected = loaded(y), network(y).clamp(0, 1)
    torch.testing.assert_close(bounds.estimate, expected[:, 1])
    torch.testing.assert_close(bounds.lower, torch.minimum(expected[:, 0], expected[:, 1]))
    torch.testing.assert_close(bounds.upper, torch.maximum(expected[:, 2], expected[:, 1]))
    assert bounds.provenance == Provenance(
        loaded.hash, label_of(model.task), None, "n-conffusion", 1, None, ALPHA
    )
    torch.testing.assert_close(loaded(y.numpy()).upper, bounds.upper)
    assert kind_of(tmp_path) == KIND
    assert certes.load(tmp_path, "cpu").hash == loaded.hash
    with pytest.raises(ModelError, match=r"draws no samples: call it on conditions, model\(y\)"):
        certes.restore(y, model=str(tmp_path))


def test_many_conditions_are_answered_in_parts(model: ConditionalModel) -> None:
    raw = one_pass_model(recipe_of(model).start, recipe_of(model), "raw")
    y = conditions(130)
    torch.testing.assert_close(raw(y).estimate[100:101], raw(y[100:101]).estimate)
    assert raw(y).estimate.shape == (130, 1, 28, 28)


def test_a_hash_is_of_all_that_the_bounds_depend_on(
    model: ConditionalModel, tmp_path: Path
) -> None:
    def mark(network: OnePassNetwork, recipe: OnePass, name: str = "bounds") -> str:
        save_one_pass(tmp_path, network, recipe, {"name": name})
        return load_one_pass(tmp_path, "cpu").hash

    recipe = recipe_of(model)
    network = recipe.start
    first = mark(network, recipe)
    assert mark(network, recipe, name="another") == first != model.hash
    assert one_pass_model(network, recipe, "any").hash == first
    front = network.front
    assert isinstance(front, PairFront)
    elsewhere = OnePassNetwork(network.net, replace(front, sigma_x=front.sigma_x / 2), network.head)
    changed = [mark(elsewhere, recipe)]
    other = from_conditional(model, alpha=0.1, **SIZES)
    changed.append(mark(other.start, other))
    with torch.no_grad():
        network.net.state_dict()["conv_out.bias"][0] += 1e-3
    changed.append(mark(network, recipe))
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
    recipe = recipe_of(model)
    network, x = recipe.start, recipe.start.front.x
    with torch.no_grad():
        network.net.conv_out.weight.zero_()
        bias = network.net.state_dict()["conv_out.bias"]
        values = (torch.tensor(said) - x.center) / x.scale
        bias.copy_(values.repeat_interleave(network.net.config.stem**2))
    bounds = one_pass_model(network, recipe, "constant")(conditions())
    for end, value in zip((bounds.lower, bounds.estimate, bounds.upper), expected, strict=True):
        torch.testing.assert_close(end, torch.full_like(end, value), rtol=0, atol=1e-5)


def test_calibrated_bounds_keep_their_promise(
    model: ConditionalModel, run: Run[OnePassNetwork], patches: PatchDataset
) -> None:
    noise = Denoising().noise
    raw = one_pass_model(run.averaged(), recipe_of(model), "raw")
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


def test_a_run_goes_on_from_its_own_start_only(
    model: ConditionalModel, run: Run[OnePassNetwork], patches: PatchDataset
) -> None:
    other = ConditionalModel(
        "other", model.denoiser, model.task, model.estimator, 1, {}, "another hash"
    )
    Run(recipe_of(model), patches, run.out, resume=True)
    with pytest.raises(ModelError, match="start"):
        Run(recipe_of(other), patches, run.out, resume=True)


@pytest.mark.parametrize(
    "task", [SuperResolving(0.02, factor=4), Inpainting(), Denoising(), Deblurring(0.02)]
)
def test_a_model_of_pictures_starts_any_task(task: SuperResolving | Inpainting) -> None:
    prior = certes.load("nuclei", "cpu", dtype=torch.float32)
    x = torch.stack([p.pixels[:, :32, :32] for p in bundled_pictures()])
    level, errors = best_level(prior, task, x)
    assert len(errors) == CANDIDATES
    assert errors[level] == min(errors.values()) < 0.9 * max(errors.values())
    raw = from_pictures(prior, task, level, patch=32)
    y = task.measure(x, torch.Generator().manual_seed(0))
    bounds = one_pass_model(raw.start, raw, "raw")(y)
    assert bounds.provenance is not None
    assert bounds.provenance.sampler == "g-conffusion"
    # The best level's error is that of the network that starts there.
    assert float((bounds.estimate - x).square().mean()) == pytest.approx(errors[level], rel=0.1)


def test_a_network_from_nothing_knows_nothing_and_is_of_the_same_size(
    model: ConditionalModel,
) -> None:
    config = PRESETS["tiny-conditional"]
    fresh, tuned = from_nothing(config, steps=7), recipe_of(model)
    assert (fresh.config.method, fresh.config.start, fresh.config.steps) == ("adm-uq", "nothing", 7)
    assert fresh.start.net.config == tuned.start.net.config
    assert fresh.config.batch == config.batch


def test_sampled_bounds_are_kept_and_gone_on_with(
    model: ConditionalModel, patches: PatchDataset, tmp_path: Path
) -> None:
    path, settings = tmp_path / "bounds.safetensors", {"samples": 3, "steps": 2, "alpha": ALPHA}
    done: list[float] = []
    first = sample_bounds_of(model, patches, 16, path, **settings)
    whole = sample_bounds_of(model, patches, 32, path, advance=done.append, **settings)
    assert len(done) == 1  # one part of 16 was there already
    torch.testing.assert_close(whole.stacks[:16], first.stacks)
    x, y, lower, mean, upper = whole.stacks.unbind(1)
    assert bool(((lower <= upper) & (mean >= lower - 1e-6) & (mean <= upper + 1e-6)).all())
    torch.testing.assert_close(x[:16], patches.batch(0, 16, 0)[:, 0])
    assert float((y - x).std()) == pytest.approx(Denoising().noise, rel=0.05)
    with pytest.raises(ModelError, match="sampled by another model, or otherwise"):
        sample_bounds_of(model, patches, 32, path, samples=4, steps=2, alpha=ALPHA)


def test_sampled_patches_are_turned_alike() -> None:
    corner = torch.zeros(1, 5, 4, 4)
    corner[:, :, 0, 1] = torch.arange(1.0, 6.0)
    for turns, ways in ((True, 8), (False, 2)):
        batch = SampledBounds(corner, turns).batch(3, 200, 0)
        assert len({tuple(p[0].flatten().nonzero().flatten().tolist()) for p in batch}) == ways
        torch.testing.assert_close(batch / batch[:, :1].amax((2, 3), keepdim=True), batch)
        torch.testing.assert_close(batch, SampledBounds(corner, turns).batch(3, 200, 0))
        part = SampledBounds(corner, turns).batch(3, 200, 0, slice(1, None, 2))
        assert torch.equal(part, batch[1::2])


def test_what_cannot_be(model: ConditionalModel, tmp_path: Path) -> None:
    with pytest.raises(CertesError, match="alpha: 1"):
        from_conditional(model, alpha=1.0)
    with pytest.raises(CertesError, match="head: 'laplace'"):
        from_conditional(model, "laplace")
    problem = pairs()
    exact_model = ConditionalModel(
        "exact", problem.denoiser(), Denoising(), model.estimator, 1, {}, "exact"
    )
    with pytest.raises(ModelError, match="no network"):
        from_conditional(exact_model)
    with pytest.raises(InputError, match="fewer channels than the 3"):
        prior = certes.load("nuclei", "cpu")
        prior.denoiser.net.config = replace(prior.denoiser.net.config, in_channels=3)
        from_pictures(prior, Drawing(), 0.1)
    recipe = recipe_of(model)
    save_one_pass(tmp_path, recipe.start, recipe, {"name": "bounds"})
    card = json.loads((tmp_path / CARD).read_text())
    (tmp_path / CARD).write_text(json.dumps({**card, "kind": "conditional"}))
    with pytest.raises(ModelError, match=f"a '{KIND}' one"):
        load_one_pass(tmp_path)
    kept = {key: value for key, value in card.items() if key not in ("front", "alpha")}
    (tmp_path / CARD).write_text(json.dumps(kept))
    with pytest.raises(ModelError, match="does not say front, alpha"):
        load_one_pass(tmp_path)


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
    recipe = recipe_of(model)
    raw: OnePassModel = one_pass_model(recipe.start, recipe, "raw")
    with pytest.raises(InputError, match=message):
        raw(y)
