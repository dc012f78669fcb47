"""Written back for diffusers: its pipelines draw the same pictures, or the error says why not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from certes.diffusion.parametrisation import Parametrisation
from certes.diffusion.schedules import Cosine, DiscreteBetas, Schedule, linear_betas
from certes.errors import InputError, ModelError
from certes.networks import Model, NetworkDenoiser, load
from certes.networks.export import save_diffusers, scheduler_config

Make = Callable[..., NetworkDenoiser]
TRAINED = {"trained_betas": [0.1, 0.2, 0.4, 0.3], "num_train_timesteps": 4}
TABLE = DiscreteBetas((0.1, 0.2, 0.4, 0.3))


@pytest.fixture(scope="module")
def diffusers() -> ModuleType:
    return pytest.importorskip("diffusers", reason="diffusers reads the folders of these tests")


def drawn(diffusers: ModuleType, folder: Path) -> torch.Tensor:
    pipeline = diffusers.DDPMPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    return torch.as_tensor(pipeline(2, generator, num_inference_steps=4, output_type="np").images)


@pytest.mark.parametrize(
    ("network", "settings"),
    [
        ({}, {"variance_type": "fixed_large", "clip_sample": False}),
        ({"attention_head_dim": None}, {"beta_schedule": "squaredcos_cap_v2"}),
        ({"norm_eps": 1e-6, "downsample_padding": 0}, TRAINED),
        ({"out_channels": 2}, {"variance_type": "learned_range", "beta_schedule": "scaled_linear"}),
        ({"resnet_time_scale_shift": "scale_shift"}, {"prediction_type": "v_prediction"}),
        ({"time_embedding_dim": 24}, {"prediction_type": "sample", "num_train_timesteps": 30}),
    ],
)
def test_a_folder_read_and_written_draws_the_same(
    diffusers: ModuleType,
    small_config: dict[str, Any],
    tmp_path: Path,
    network: dict[str, Any],
    settings: dict[str, Any],
) -> None:
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(**small_config | network)
    scheduler = diffusers.DDPMScheduler(**settings)
    diffusers.DDPMPipeline(unet, scheduler).save_pretrained(tmp_path / "theirs")
    model = load(tmp_path / "theirs", device="cpu", dtype=torch.float32)
    save_diffusers(model, tmp_path / "ours")
    expected = drawn(diffusers, tmp_path / "theirs")
    torch.testing.assert_close(drawn(diffusers, tmp_path / "ours"), expected)
    assert expected.std() > 0.01
    assert load(tmp_path / "ours").hash == model.hash
    written = json.loads((tmp_path / "ours/scheduler/scheduler_config.json").read_text())
    assert written == {"_class_name": "DDPMScheduler"} | {
        key: value for key, value in scheduler.config.items() if key in written
    }


@pytest.mark.parametrize(
    ("schedule", "kind"),
    [(linear_betas(), "linear"), (linear_betas(10, 0.01, 0.3), "linear"), (TABLE, None)],
)
def test_tables(make_denoiser: Make, schedule: DiscreteBetas, kind: str | None) -> None:
    denoiser = NetworkDenoiser(make_denoiser().net, schedule, Parametrisation("noise"))
    config = scheduler_config(denoiser, {})
    assert config.get("beta_schedule") == kind
    assert config.get("trained_betas") == (list(TABLE.betas) if kind is None else None)
    assert config["num_train_timesteps"] == schedule.steps


def model_of(denoiser: NetworkDenoiser) -> Model:
    return Model("small", denoiser, {}, "")


@pytest.mark.parametrize(
    ("network", "process", "named"),
    [
        ({"stem": 2}, (linear_betas(), "noise", 0.5), "stem"),
        (
            {
                "attention_head_dim": [4, 8],
                "down_block_types": ["AttnDownBlock2D"] * 2,
                "up_block_types": ["AttnUpBlock2D"] * 2,
            },
            (linear_betas(), "noise", 0.5),
            r"attention_head_dim: .* several widths \[4, 8\]",
        ),
        ({"time_proj_dim": 16}, (linear_betas(), "noise", 0.5), "time_proj_dim"),
        ({}, (Cosine(), "v", 0.5), "'cosine', only tables"),
        ({}, (linear_betas(), "score", 0.5), "prediction: .*'score'"),
        ({}, (linear_betas(), "noise", 0.3), "center, scale"),
        ({"out_channels": 2}, (linear_betas(), "noise", 0.5), "head: .*log-variances"),
    ],
)
def test_what_cannot_be_said_is_named(
    make_denoiser: Make,
    tmp_path: Path,
    network: dict[str, Any],
    process: tuple[Schedule, str, float],
    named: str,
) -> None:
    schedule, prediction, center = process
    net = make_denoiser(**network).net
    denoiser = NetworkDenoiser(net, schedule, Parametrisation(prediction), center)
    with pytest.raises(ModelError, match=named):
        save_diffusers(model_of(denoiser), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@torch.no_grad()
def test_heads_that_agree_where_there_is_attention(
    diffusers: ModuleType, make_denoiser: Make, tmp_path: Path
) -> None:
    net = make_denoiser(attention_head_dim=[3, 8]).net  # the first level has none
    denoiser = NetworkDenoiser(net, TABLE, Parametrisation("noise"))
    save_diffusers(model_of(denoiser), tmp_path / "out")
    theirs = diffusers.DDPMPipeline.from_pretrained(tmp_path / "out").unet
    x, t = torch.randn(2, 1, 16, 16), torch.tensor([0, 3])
    torch.testing.assert_close(theirs(x, t).sample, net(x, t))
    with pytest.raises(InputError, match="is not empty"):
        save_diffusers(model_of(denoiser), tmp_path / "out")
