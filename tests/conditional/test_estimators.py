"""Estimators are one family: its ends coincide bit for bit, and its parts are what they say."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from certes.conditional.config import ConditionalConfig
from certes.conditional.estimators import (
    Curriculum,
    Estimator,
    cde,
    cdiffe,
    cmde,
    estimator_from_config,
    vs_cmde,
)
from certes.conditional.objective import NoisyPairs, ScoreMatching
from certes.conditional.presets import ESTIMATORS, PRESETS, load_conditional_config
from certes.conditional.recipe import Conditional
from certes.conditional.sampling import draw_given, levels_of
from certes.conditional.weighting import Epsilon, MaximumLikelihood, Velocity, weighting_named
from certes.diffusion.noise import NoiseSource
from certes.diffusion.schedules import VE, VP, Cosine, Still
from certes.diffusion.solvers.sampling import ReverseChain
from certes.errors import InputError
from certes.training.objectives import Losses
from certes.training.times import Drawn

from .conftest import generator, tensor

X = VE(0.002, 28.0)
# So faint that it changes no bit of a picture, and is told to the network as none.
FAINT = cmde(X, 2e-9, sigma_min=1e-9)


def config_of(estimator: Estimator) -> ConditionalConfig:
    """The smallest preset as another estimator."""
    tiny = PRESETS["tiny-conditional"]
    network = tiny.network | {"out_channels": 1 + estimator.predicts_y}
    return replace(tiny, network=network, estimator=estimator.to_config())


def trained(estimator: Estimator, step: int = 0) -> tuple[NoisyPairs, Losses]:
    """What a step sees, and its losses for one and the same answer of a network."""
    recipe = Conditional(config_of(estimator))
    denoiser = recipe.build()
    patches = torch.rand(4, 1, 28, 28, generator=generator(1)).round()
    t = tensor(0.1, 0.4, 0.7, 0.95)
    batch = recipe.noisy(denoiser, patches, Drawn(t, torch.ones_like(t)), generator(2), step)
    answer = torch.randn(4, 2, 28, 28, generator=generator(3))[:, : batch.target.shape[1]]
    return batch, recipe.objective(denoiser, torch.device("cpu"))(answer, batch)


def test_cmde_without_noise_in_y_is_cde() -> None:
    first, losses = trained(cde(X))
    second, again = trained(cmde(X, 0.0))
    assert torch.equal(first.x_t, second.x_t)
    assert torch.equal(losses.each, again.each)


def test_cmde_becomes_cde_as_its_noise_vanishes() -> None:
    first, losses = trained(cde(X))
    second, again = trained(FAINT)
    assert torch.equal(first.x_t, second.x_t)
    assert torch.equal(first.conditioning, second.conditioning)
    assert torch.equal(first.target, second.target[:, :1])
    assert torch.equal(first.errors, second.errors[:, :1])
    assert torch.equal(losses.simple, again.simple)


def test_cmde_of_one_speed_is_cdiffe() -> None:
    first, losses = trained(cdiffe(X))
    second, again = trained(cmde(X, X.sigma_max, sigma_min=X.sigma_min))
    for name in ("x_t", "conditioning", "target", "errors"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    assert torch.equal(losses.each, again.each)


@pytest.mark.parametrize("end", [cde(X), cdiffe(X)], ids=["cde", "cdiffe"])
def test_other_speeds_are_other_estimators(end: Estimator) -> None:
    """Negative control; what does not depend on y stays the same bit for bit."""
    first, losses = trained(end)
    second, again = trained(cmde(X, 1.0))
    assert torch.equal(first.x_t[:, :1], second.x_t[:, :1])
    assert torch.equal(losses.simple, again.simple)
    assert not torch.equal(first.x_t[:, 1:], second.x_t[:, 1:])
    assert not torch.equal(first.conditioning, second.conditioning)
    assert not torch.equal(losses.each, again.each)


def drawn(estimator: Estimator, solver: Any, policy: str) -> Tensor:
    """Samples of one and the same network, which answers for both blocks."""
    denoiser = Conditional(config_of(cdiffe(X))).build()
    for value in denoiser.net.state_dict().values():
        value.copy_(0.3 * torch.randn(value.shape, generator=generator(value.numel())))
    y = torch.rand(2, 1, 28, 28, generator=generator(4)).round()
    chain = ReverseChain(solver, 4)
    *_, last = draw_given(denoiser, estimator, y, (1, 28, 28), NoiseSource([5, 6]), chain, policy)
    return last.x


@pytest.mark.parametrize("solver", ["dpm_solver_2m_sde", "heun"])
@pytest.mark.parametrize("policy", ["fresh", "path"])
def test_samples_at_the_ends_coincide(solver: str, policy: str) -> None:
    plain = drawn(cde(X), solver, "fixed")
    assert plain.isfinite().all()
    assert torch.equal(drawn(cmde(X, 0.0), solver, "fresh"), plain)
    both = drawn(cdiffe(X), solver, policy)
    assert torch.equal(drawn(cmde(X, X.sigma_max, sigma_min=X.sigma_min), solver, policy), both)
    other = drawn(cmde(X, 1.0), solver, policy)
    assert not torch.equal(other, plain)
    assert not torch.equal(other, both)


def test_samples_become_those_of_the_cde() -> None:
    """With a solver that draws nothing on its way, as y's noise comes from the same stream."""
    assert torch.equal(drawn(FAINT, "heun", "fresh"), drawn(cde(X), "heun", "fresh"))


def test_the_curriculum_is_that_of_the_authors() -> None:
    curriculum = Curriculum(28.0, 0.5, 1000)
    values = [curriculum.sigma_max(step) for step in range(0, 1001, 50)]
    assert values[0] == 28.0
    assert values[-1] == pytest.approx(0.5, rel=1e-12)
    assert all(b < a for a, b in pairwise(values))
    # 1 / sigma grows by the same amount at every step.
    inverse = [1 / value for value in values]
    steps = [b - a for a, b in pairwise(inverse)]
    assert steps == pytest.approx([steps[0]] * len(steps), rel=1e-9)
    assert curriculum.sigma_max(5000) == curriculum.sigma_max(1000)


def test_a_curriculum_changes_what_a_step_trains() -> None:
    estimator = vs_cmde(X, Curriculum(28.0, 0.5, 100), sigma_min=0.01)
    assert estimator.at(0).y == VE(0.01, 28.0)
    assert estimator.at(100) == estimator.at(10**6)
    y = estimator.at(100).y
    assert isinstance(y, VE)
    assert y.sigma_max == pytest.approx(0.5)
    assert estimator.y == VE(0.01, 0.5)  # what samples are drawn with
    assert estimator.at(30).x == X
    plain = cmde(X, 0.5)
    assert plain.at(0) is plain
    first, last = trained(estimator, 0)[0], trained(estimator, 100)[0]
    assert torch.equal(first.x_t[:, :1], last.x_t[:, :1])
    assert (first.conditioning[:, 1] > last.conditioning[:, 1]).all()


SCHEDULES = {
    "ve": (VE(0.002, 28.0), tensor(0.002, 0.1, 3.0, 28.0)),
    "vp": (VP(), tensor(0.02, 0.1, 3.0, 100.0)),
    "cosine": (Cosine(), tensor(0.001, 0.1, 3.0, 100.0)),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_levels_of_both_blocks_are_at_one_time(name: str) -> None:
    x, levels = SCHEDULES[name]
    y = VE(0.01, 0.7)
    found = Estimator(x, y).y_level(levels)
    t = x.time(-2 * levels.log())
    torch.testing.assert_close(found, y.sigma(t))
    assert (found.diff() > 0).all()
    beyond = Estimator(x, y).y_level(tensor(0.0, 1e9))
    torch.testing.assert_close(beyond, tensor(0.01, 0.7), rtol=1e-6, atol=0)
    assert found.float().dtype == Estimator(x, y).y_level(levels.float()).dtype


def test_two_speeds_are_powers_of_each_other() -> None:
    """Geometric schedules: the log of one level is affine in that of the other."""
    levels = tensor(0.002, 0.02, 0.5, 28.0)
    share = (levels / 0.002).log() / math.log(28.0 / 0.002)
    torch.testing.assert_close(cmde(X, 0.5, sigma_min=0.01).y_level(levels), 0.01 * 50.0**share)
    torch.testing.assert_close(cdiffe(X).y_level(levels), levels)
    assert not cde(X).y_level(levels).any()


def test_grids_span_the_noise_of_the_picture() -> None:
    for steps in (1, 7, 50):
        grid = levels_of(cmde(X, 0.5), steps)
        assert len(grid) == steps + 1
        assert float(grid[0]) == pytest.approx(28.0)
        assert float(grid[-1]) == 0
    assert float(levels_of(cde(VP()), 9)[-2]) == pytest.approx(0.002)


@pytest.mark.parametrize(
    "estimator",
    [
        cde(X),
        cdiffe(VP(), Epsilon()),
        cmde(X, 0.5, MaximumLikelihood(), 0.01),
        vs_cmde(X, Curriculum(28.0, 0.5, 300)),
    ],
)
def test_configs_come_back(estimator: Estimator) -> None:
    config = json.loads(json.dumps(estimator.to_config()))
    again = estimator_from_config(config)
    assert again.to_config() == estimator.to_config()
    assert (again.x, again.y, again.curriculum) == (estimator.x, estimator.y, estimator.curriculum)
    assert type(again.weighting) is type(estimator.weighting)


@pytest.mark.parametrize("name", [n for n in PRESETS if not n.startswith("celeba")])
def test_presets_are_what_their_names_say(name: str) -> None:
    config = PRESETS[name]
    estimator = config.made_estimator()
    quick = name.startswith(("nuclei-", "photos-"))
    rest = "cde" if quick else "cmde"
    kind = next((k for k in sorted(ESTIMATORS, key=len, reverse=True) if name.endswith(k)), rest)
    assert (kind == "cde") == isinstance(estimator.y, Still)
    assert (kind == "vs-cmde") == (estimator.curriculum is not None)
    assert (kind == "cdiffe") == (estimator.x == estimator.y)


def test_a_run_comes_back_from_its_file(tmp_path: Any) -> None:
    config = PRESETS["inpaint-vs-cmde"]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config.to_dict()))
    assert load_conditional_config(str(path)) == config
    assert load_conditional_config("edges-cde") is PRESETS["edges-cde"]
    path.write_text(json.dumps({"network": {}}))
    assert load_conditional_config(str(path)) is None
    path.write_text("not JSON")
    assert load_conditional_config(str(path)) is None
    path.write_text(json.dumps(config.to_dict() | {"colour": 1}))
    with pytest.raises(InputError, match="does not describe a run"):
        load_conditional_config(str(path))


CONFIG: dict[str, Any] = cmde(X, 0.5).to_config()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"x": CONFIG["x"]}, "estimator: does not say y, weighting"),
        (CONFIG | {"x": {"kind": "vee"}}, "schedule: kind 'vee' is unknown"),
        (CONFIG | {"weighting": "song"}, "weighting: 'song'; give one of mle, epsilon, velocity"),
        (
            CONFIG | {"curriculum": {"start": 1.0}},
            "curriculum: fields .*; give start, target, steps",
        ),
        (
            CONFIG | {"curriculum": {"start": 0.1, "target": 0.5, "steps": 9}},
            "start, target, steps: 0.1, 0.5, 9; give start > target > 0",
        ),
        (
            CONFIG
            | {"y": {"kind": "still"}, "curriculum": {"start": 1.0, "target": 0.5, "steps": 9}},
            "curriculum: of 'still'",
        ),
    ],
)
def test_configs_that_make_no_sense(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        estimator_from_config(config)
    assert "\n" not in str(error.value)


def test_refused() -> None:
    with pytest.raises(InputError, match=r"sigma_min, sigma_max: 0.002, 0.001"):
        cmde(X, 0.001)
    with pytest.raises(InputError, match="start, target, steps"):
        Curriculum(2.0, 1.0, 0)
    with pytest.raises(InputError, match="these blocks and this estimator need"):
        replace(PRESETS["edges-cde"], estimator=cmde(X, 1.0).to_config())
    with pytest.raises(InputError, match="y: 2 channels; task 'edges' makes conditions of 1"):
        replace(PRESETS["edges-cde"], y={"channels": 2})
    with pytest.raises(InputError, match="x, y: not the keys of a block"):
        replace(PRESETS["edges-cde"], y={"channels": 1, "colour": 2})


def test_weightings_have_names() -> None:
    for name, kind in (("mle", MaximumLikelihood), ("epsilon", Epsilon), ("velocity", Velocity)):
        assert isinstance(weighting_named(name), kind)
    assert isinstance(cde(X).weighting, Velocity)


def test_the_recipe_trains_what_the_criterion_expects() -> None:
    recipe = Conditional(PRESETS["tiny-conditional"])
    assert recipe.channels == 1
    assert recipe.schedule == recipe.estimator.x
    assert isinstance(recipe.objective(recipe.build(), torch.device("cpu")), ScoreMatching)
    paired = Conditional(PRESETS["labels-cmde"])
    assert paired.channels == 3
    patches = torch.rand(2, 3, 8, 8, generator=generator())
    x, y = paired.pairs(patches, generator())
    assert torch.equal(torch.cat([x, y], dim=1), patches)


def test_the_share_of_y_is_part_of_the_estimator() -> None:
    plain, weighed = cmde(X, 0.5), replace(cmde(X, 0.5), y_share=0.05)
    assert "y_share" not in plain.to_config()  # folders from before keep their hash
    for estimator in (plain, weighed):
        again = estimator_from_config(json.loads(json.dumps(estimator.to_config())))
        assert again.y_share == estimator.y_share
        assert again.to_config() == estimator.to_config()
    assert plain.to_config() != weighed.to_config()


@pytest.mark.parametrize("share", [0.0, -1.0])
def test_a_share_must_be_positive(share: float) -> None:
    with pytest.raises(InputError, match="y_share: "):
        replace(cmde(X, 0.5), y_share=share)


def test_x_must_diffuse() -> None:
    with pytest.raises(InputError, match="x: 'still' has no noise"):
        cde(Still())
