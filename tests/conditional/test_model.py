"""Folders of conditional models: they answer as before, and say what they are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import certes
from certes.conditional.estimators import Curriculum, Estimator, cde, cdiffe, cmde, vs_cmde
from certes.conditional.model import (
    ConditionalModel,
    digest_of,
    load_conditional,
    save_conditional,
    summary_of,
)
from certes.conditional.presets import PRESETS
from certes.conditional.publish import publish_conditional
from certes.conditional.recipe import Conditional
from certes.conditional.tasks import ConditionalTask, Denoising, Inpainting
from certes.data.patches import PatchDataset
from certes.diffusion.schedules import VE
from certes.errors import InputError, ModelError
from certes.networks import model as unconditional
from certes.networks.conditional import Block, ConditionalNetworkDenoiser
from certes.networks.model import CARD, kind_of
from certes.networks.unet import UNet, UNetConfig
from certes.training.fitted import Fitted

X = VE(0.002, 28.0)
TASK, ESTIMATOR = Denoising(noise=0.2), cmde(X, 0.3)
CARDED = {"name": "pairs", "licence": "CC0-1.0"}


def denoiser(out: int = 2, seed: int = 0) -> ConditionalNetworkDenoiser:
    """Random weights."""
    config = UNetConfig(
        in_channels=2,
        out_channels=out,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        add_attention=False,
        noise_levels=2,
    )
    torch.manual_seed(seed)
    return ConditionalNetworkDenoiser(UNet(config).eval(), Block(1, 0.3, 0.4), Block(1, 0.2, 0.1))


def saved(folder: Path, estimator: Estimator = ESTIMATOR, **changes: Any) -> Path:
    settings: dict[str, Any] = {"task": TASK, "card": CARDED, "dtype": torch.float32} | changes
    save_conditional(folder, denoiser(), estimator=estimator, **settings)
    return folder


def asked() -> tuple[torch.Tensor, ...]:
    """A picture of odd sides and its condition, each with noise."""
    generator = torch.Generator().manual_seed(1)
    x, y = torch.rand(2, 2, 1, 11, 14, generator=generator)
    return x, torch.tensor([0.5, 3.0]), y, torch.tensor([0.0, 0.2])


def test_a_saved_model_answers_as_before(tmp_path: Path) -> None:
    before, loaded = denoiser(), certes.load(saved(tmp_path), dtype=torch.float32)
    assert isinstance(loaded, ConditionalModel)
    assert (loaded.name, loaded.channels) == ("pairs", 1)
    assert loaded.task == TASK
    assert loaded.estimator.to_config() == ESTIMATOR.to_config()
    assert loaded.card["licence"] == "CC0-1.0"
    assert loaded.hash == digest_of(before, TASK, ESTIMATOR)
    one, other = before(*asked()), loaded(*asked())
    torch.testing.assert_close(one.x.mean, other.x.mean)
    assert one.y is not None
    assert other.y is not None
    torch.testing.assert_close(one.y, other.y)
    assert loaded.device == next(before.net.parameters()).device
    assert kind_of(tmp_path) == "conditional"


def test_the_digest_is_of_all_that_answers_depend_on(tmp_path: Path) -> None:
    same = digest_of(denoiser(), TASK, ESTIMATOR)
    other_units = ConditionalNetworkDenoiser(denoiser().net, Block(1, 0.3, 0.5), Block(1, 0.2, 0.1))
    others: list[tuple[ConditionalNetworkDenoiser, ConditionalTask, Estimator]] = [
        (denoiser(seed=1), TASK, ESTIMATOR),
        (other_units, TASK, ESTIMATOR),
        (denoiser(), Denoising(noise=0.1), ESTIMATOR),
        (denoiser(), TASK, cmde(X, 0.4)),
    ]
    assert digest_of(denoiser(), TASK, ESTIMATOR) == same
    assert len({same, *(digest_of(*other) for other in others)}) == 5
    saved(tmp_path, card={"name": "other name"})
    assert load_conditional(tmp_path).hash == same


def test_a_card_that_is_not_one(tmp_path: Path) -> None:
    saved(tmp_path)
    card = json.loads((tmp_path / CARD).read_text())
    for change, error, message in (
        ({"kind": "unconditional"}, ModelError, "kind 'unconditional'; a 'conditional' model"),
        ({"task": {"kind": "sculpt"}}, InputError, "kind 'sculpt'; give one of denoise"),
        ({"task": {"kind": "denoise", "nose": 1}}, InputError, "do not fit 'denoise'"),
        ({"x": {"channels": 3}}, ModelError, "for a picture of 3 and a condition of 1"),
    ):
        (tmp_path / CARD).write_text(json.dumps(card | change))
        with pytest.raises(error, match=message):
            load_conditional(tmp_path)
    del card["estimator"]
    (tmp_path / CARD).write_text(json.dumps(card))
    with pytest.raises(ModelError, match=r"certes\.json does not say estimator"):
        load_conditional(tmp_path)


def test_a_model_of_pictures_is_wanted(tmp_path: Path) -> None:
    saved(tmp_path)
    with pytest.raises(ModelError, match="conditional models answer nothing but conditions"):
        unconditional.load(tmp_path)


@pytest.mark.parametrize(
    ("estimator", "name"),
    [
        (cde(X), "CDE"),
        (cdiffe(X), "CDiffE"),
        (cmde(X, 1.0), "CMDE"),
        (vs_cmde(X, Curriculum(28.0, 1.0, 100)), "VS-CMDE"),
    ],
)
def test_summaries(estimator: Estimator, name: str) -> None:
    assert summary_of(Inpainting(), estimator).startswith(f"inpaint, by {name}: ")


def test_what_is_published_is_what_the_last_step_trained(tmp_path: Path) -> None:
    config = replace(PRESETS["tiny-conditional"], estimator=PRESETS["edges-vs-cmde"].estimator)
    recipe = Conditional(config)
    pictures = torch.randint(256, (2, 1, 32, 32)).byte()
    publish_conditional(
        recipe, recipe.build(), PatchDataset(list(pictures), 32), tmp_path, dict(CARDED)
    )
    fitted = Fitted.load(tmp_path)
    assert fitted is not None
    assert fitted.trained.knows(pictures[1, :, 8:])
    loaded = load_conditional(tmp_path)
    assert loaded.estimator.y.to_config() == recipe.estimator.at(config.steps).y.to_config()
    assert loaded.estimator.y.to_config() != recipe.estimator.y.to_config()
    assert loaded.card["summary"] == loaded.summary == summary_of(recipe.task, recipe.estimator)
    assert loaded.card["name"] == "pairs"


def test_a_loaded_model_restores_like_the_one_in_memory(tmp_path: Path) -> None:
    y = torch.rand(1, 1, 11, 14)
    named = certes.restore(y, model=str(saved(tmp_path)), samples=2, steps=3)
    in_memory = certes.restore(y, model=certes.load(tmp_path), samples=2, steps=3)
    assert torch.equal(named.samples, in_memory.samples)
    assert named.samples.shape == (2, 1, 1, 11, 14)
    assert float(named.samples.min()) >= 0
    assert float(named.samples.max()) <= 1
