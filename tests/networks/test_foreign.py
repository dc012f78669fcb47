"""Folders written by diffusers itself, in every layout that its users have."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from certes.diffusion.process import Process
from certes.diffusion.reverse import reverse_variance
from certes.diffusion.schedules import DiscreteBetas
from certes.errors import ModelError
from certes.networks import load, model
from certes.networks.foreign import LEGACY, read_schedule
from certes.networks.model import save_model

WEIGHTS = "diffusion_pytorch_model.safetensors"
DDPM = {"downsample_padding": 0, "flip_sin_to_cos": False, "freq_shift": 1, "norm_eps": 1e-6}


@pytest.fixture(autouse=True)
def _float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "inference_dtype", lambda place: torch.float32)


@pytest.fixture(scope="module")
def diffusers() -> ModuleType:
    return pytest.importorskip("diffusers", reason="diffusers writes the folders of these tests")


@pytest.fixture
def pipeline(diffusers: ModuleType, small_config: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(**small_config | DDPM)
    scheduler = diffusers.DDPMScheduler(variance_type="fixed_large")
    return diffusers.DDPMPipeline(unet, scheduler)


@pytest.fixture
def folder(pipeline: Any, tmp_path: Path) -> Path:
    pipeline.save_pretrained(tmp_path / "ddpm")
    return tmp_path / "ddpm"


def at_root(folder: Path) -> Path:
    """The layout of before pipelines had subfolders."""
    for path in [*(folder / "unet").iterdir(), *(folder / "scheduler").iterdir()]:
        path.rename(folder / path.name)
    (folder / "model_index.json").unlink()
    return folder


def as_pickle(folder: Path, net: Any, name: str = "diffusion_pytorch_model.bin") -> Path:
    (folder / WEIGHTS).unlink()
    torch.save(net.state_dict(), folder / name)
    return folder / name


@torch.no_grad()
def assert_denoises_like(pipeline: Any, loaded: model.Model) -> None:
    """At index i of the table, x = x_t / alpha and the estimate is that of the noise prediction."""
    index = torch.tensor([0, 10, 500, 999])
    alpha_bar = pipeline.scheduler.alphas_cumprod.double()[index][:, None, None, None]
    sigma = ((1 - alpha_bar) / alpha_bar).sqrt()
    x0 = 2 * torch.rand(4, 1, 16, 16).double() - 1
    x = x0 + sigma * torch.randn(4, 1, 16, 16).double()
    x_t = alpha_bar.sqrt() * x
    e = pipeline.unet(x_t.float(), index).sample.double()
    expected = x - sigma * e
    answer = loaded((x + 1).float() / 2, sigma.flatten().float() / 2)
    # Relative to the noise: at the highest level x is of size 160 in float32.
    error = ((2 * answer.mean - 1).double() - expected) / (1 + sigma)
    assert error.abs().max() < 1e-5
    assert e.std() > 0.1


def test_subfolder_layout(pipeline: Any, folder: Path) -> None:
    loaded = load(folder, device="cpu")
    assert loaded.name == "ddpm"
    assert_denoises_like(pipeline, loaded)


def test_root_layout(pipeline: Any, folder: Path) -> None:
    loaded = load(at_root(folder), device="cpu")
    assert loaded.name == "ddpm"
    assert_denoises_like(pipeline, loaded)


def test_weights_named_in_their_subfolder(pipeline: Any, folder: Path) -> None:
    loaded = load(folder / "unet" / WEIGHTS, device="cpu")
    assert loaded.name == "ddpm"
    assert_denoises_like(pipeline, loaded)


@pytest.mark.parametrize("layout", ["root", "subfolder"])
def test_pickles_only_when_named(pipeline: Any, folder: Path, layout: str) -> None:
    weights = as_pickle(at_root(folder) if layout == "root" else folder / "unet", pipeline.unet)
    with pytest.raises(ModelError, match=r"is missing; pass .*\.bin itself"):
        load(folder)
    assert_denoises_like(pipeline, load(weights, device="cpu"))


def test_pickles_run_no_code(folder: Path, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    weights = folder / "unet" / "diffusion_pytorch_model.bin"
    with weights.open("wb") as file:
        pickle.dump({"conv_in.weight": Payload()}, file, protocol=2)
    with pytest.raises(ModelError, match="damaged or holds no weights") as caught:
        load(weights)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()
    pickle.loads(weights.read_bytes())  # the payload is live: what was refused is code
    assert (tmp_path / "ran").exists()


def test_attention_names_of_before_2023(pipeline: Any, folder: Path) -> None:
    class Old:
        def state_dict(self) -> dict[str, torch.Tensor]:
            state = pipeline.unet.state_dict()
            for old, new in LEGACY.items():
                state = {name.replace(new, old): value for name, value in state.items()}
            assert any(".query." in name for name in state)
            return state

    weights = as_pickle(at_root(folder), Old())
    assert_denoises_like(pipeline, load(weights, device="cpu"))


def test_our_folders_load_in_diffusers(
    diffusers: ModuleType, pipeline: Any, folder: Path, tmp_path: Path
) -> None:
    loaded = load(folder, device="cpu")
    save_model(tmp_path / "ours", loaded.denoiser, {"name": "ours"}, torch.float32)
    theirs = diffusers.UNet2DModel.from_pretrained(tmp_path / "ours")
    x, t = torch.randn(2, 1, 16, 16), torch.tensor([3, 700])
    torch.testing.assert_close(theirs(x, t).sample, pipeline.unet(x, t).sample)
    again = load(tmp_path / "ours", device="cpu")
    assert again.hash == loaded.hash
    assert_denoises_like(pipeline, again)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {
            "beta_schedule": "linear",
            "beta_start": 2e-4,
            "beta_end": 0.01,
            "num_train_timesteps": 50,
        },
        {"beta_schedule": "scaled_linear"},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"trained_betas": [0.1, 0.2, 0.4]},
    ],
    ids=lambda s: s.get("beta_schedule", "trained" if s else "default"),
)
def test_schedules(diffusers: ModuleType, settings: dict[str, Any]) -> None:
    theirs = diffusers.DDPMScheduler(**settings)
    ours = read_schedule(json.loads(theirs.to_json_string()))
    assert isinstance(ours, DiscreteBetas)
    index = torch.arange(ours.steps)
    alpha_bar = ours.alpha(ours.time_of_index(index)) ** 2
    torch.testing.assert_close(alpha_bar.float(), theirs.alphas_cumprod, rtol=2e-4, atol=1e-9)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("file", "change", "named"),
    [
        ("scheduler/scheduler_config.json", {"prediction_type": "flow"}, "prediction_type 'flow'"),
        (
            "scheduler/scheduler_config.json",
            {"beta_schedule": "sigmoid"},
            "beta_schedule 'sigmoid'",
        ),
        ("scheduler/scheduler_config.json", {"rescale_betas_zero_snr": True}, "zero_snr"),
        ("unet/config.json", {"class_embed_type": "timestep"}, "class_embed_type"),
        ("unet/config.json", {"layers_per_block": 2}, "does not fit"),
    ],
)
def test_refuses_what_it_would_get_wrong(
    folder: Path, file: str, change: dict[str, Any], named: str
) -> None:
    edit(folder / file, **change)
    with pytest.raises(ModelError, match=named):
        load(folder)


def save(diffusers: ModuleType, folder: Path, unet: Any, **settings: Any) -> Any:
    pipeline = diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler(**settings))
    pipeline.save_pretrained(folder)
    return pipeline


@torch.no_grad()
def test_learned_ranges(
    diffusers: ModuleType, small_config: dict[str, Any], tmp_path: Path
) -> None:
    """With single steps, the variances are those of diffusers' own scheduler."""
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(**small_config | {"out_channels": 2})
    scheduler = save(diffusers, tmp_path, unet, variance_type="learned_range").scheduler
    denoiser = load(tmp_path, device="cpu").denoiser
    process = Process(denoiser.schedule, center=0.5, scale=0.5)
    for i in (1, 10, 500, 999):
        x_t, t = torch.randn(1, 1, 16, 16), denoiser.schedule.time_of_index(i)
        denoised = process.denoise(denoiser, x_t.double(), t)
        s = denoiser.schedule.time_of_index(i - 1)
        answer = reverse_variance(process, denoiser, denoised, t, s, "learned")
        v = unet(x_t, i).sample[:, 1:].clamp(-1, 1)
        theirs = scheduler._get_variance(i, predicted_variance=v).exp()
        torch.testing.assert_close(answer.float(), theirs, rtol=1e-3, atol=0)
        assert theirs.std() > 0


def test_other_variances_are_refused(
    diffusers: ModuleType, small_config: dict[str, Any], tmp_path: Path
) -> None:
    for outputs, kind in ((2, "learned"), (2, "fixed_small"), (3, "learned_range")):
        unet = diffusers.UNet2DModel(**small_config | {"out_channels": outputs})
        save(diffusers, tmp_path, unet, variance_type=kind)
        with pytest.raises(ModelError, match=f"{outputs} output channels for 1 .* '{kind}'"):
            load(tmp_path)


@torch.no_grad()
def test_classes(diffusers: ModuleType, small_config: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(**small_config | {"num_class_embeds": 3})
    save(diffusers, tmp_path, unet)
    x, t = torch.randn(2, 1, 16, 16), torch.tensor([3, 700])
    for label in range(3):
        net = load(f"{tmp_path}@{label}", device="cpu").denoiser.net
        expected = unet(x, t, class_labels=torch.full((2,), label)).sample
        torch.testing.assert_close(net(x, t), expected)
    with pytest.raises(ModelError, match="knows 3 classes"):
        load(tmp_path)


@pytest.mark.parametrize("missing", ["scheduler/scheduler_config.json", f"unet/{WEIGHTS}"])
def test_missing_files(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=Path(missing).name):
        load(folder)
