from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
import torch

from certes.diffusion.schedules import DiscreteBetas
from certes.errors import CertesError, InputError
from certes.networks import UNet
from certes.training.bound import table_step
from certes.training.config import TrainingConfig
from certes.training.loop import learning_rate
from certes.training.noising import noisy_batch
from certes.training.objectives import Objective
from certes.training.presets import PRESETS, load_config
from certes.training.times import Drawn
from certes.training.unconditional import Unconditional

from .conftest import generator

DDPM = ("ddpm-cifar10", "ddpm-256")
FAMILY = [name for name in PRESETS if name.startswith("ddpm")]


@cache
def parameters(name: str) -> int:
    with torch.device("meta"):
        return sum(value.numel() for value in UNet(PRESETS[name].unet()).parameters())


@pytest.mark.parametrize("name", PRESETS)
def test_presets_make_runs(name: str) -> None:
    config = load_config(name)
    assert TrainingConfig(**config.to_dict()) == config
    assert config.warmup < config.steps
    with torch.device("meta"):
        net = UNet(config.unet())
    assert net.config.multiple <= config.patch


def test_old_presets_mean_what_they_meant() -> None:
    for name in ("nuclei", "nuclei-large", "tiny"):
        config = PRESETS[name]
        assert (config.objective, config.weights, config.times) == (
            "simple",
            "picture",
            "stratified",
        )
        assert (config.rate_decay, config.symmetries) == ("cosine", "square")
        assert config.ema_ramp
        assert config.average_decay == 0.999


@pytest.mark.parametrize(("name", "count"), list(zip(DDPM, (35_746_307, 113_673_219), strict=True)))
def test_ddpm_network_is_that_of_the_paper(name: str, count: int) -> None:
    diffusers = pytest.importorskip("diffusers", reason="the independent implementation")
    config = PRESETS[name]
    with torch.device("meta"):
        theirs = diffusers.UNet2DModel(**config.network)
    assert parameters(name) == sum(value.numel() for value in theirs.parameters()) == count
    unet = config.unet()
    attends = [
        f"{unet.sample_size // 2**i}" for i, k in enumerate(unet.down_block_types) if "Attn" in k
    ]
    assert attends == ["16"]
    assert unet.dropout == (0.1 if name == "ddpm-cifar10" else 0.0)
    assert (unet.norm_num_groups, unet.norm_eps, unet.downsample_padding) == (32, 1e-6, 0)
    assert (unet.freq_shift, unet.flip_sin_to_cos) == (1, False)
    assert unet.head_dim(1) == unet.block_out_channels[1]  # one head


@pytest.mark.parametrize("name", FAMILY)
def test_ddpm_is_trained_as_in_the_paper(name: str) -> None:
    config = PRESETS[name]
    large = name == "ddpm-256"
    assert (config.batch, config.patch) == ((64, 256) if large else (128, 32))
    assert config.variance == ("small" if large else "large")
    assert (config.center, config.scale) == (0.5, 0.5)  # [-1, 1]
    assert (config.times, config.weights, config.symmetries) == ("uniform", "uniform", "flips")
    assert (config.clip, config.average_decay, config.ema_ramp) == (1.0, 0.9999, False)
    assert config.steps == (500_000 if large else 800_000)
    rates = [learning_rate(config, step) for step in (0, 2499, 4999, 5000, 400_000, config.steps)]
    peak = 2e-5 if large else 2e-4
    assert rates == pytest.approx([peak / 5000, peak / 2, peak, peak, peak, peak])


@pytest.mark.parametrize(
    ("name", "prediction", "objective", "head"),
    [
        ("ddpm-cifar10", "noise", "simple", None),
        ("ddpm-cifar10-bound", "noise", "bound", None),
        ("ddpm-cifar10-bound-learned", "noise", "bound", "residual"),
        ("ddpm-cifar10-mean", "mean", "simple", None),
        ("ddpm-cifar10-mean-bound", "mean", "bound", None),
        ("ddpm-cifar10-mean-bound-learned", "mean", "bound", "residual"),
    ],
)
def test_rows_of_tables_1_and_2(
    name: str, prediction: str, objective: str, head: str | None
) -> None:
    config = PRESETS[name]
    assert (config.prediction, config.objective) == (prediction, objective)
    denoiser = Unconditional(config).build()
    assert denoiser.head == head
    assert Objective(denoiser, config, torch.device("cpu")).name == objective


def test_ddpm_process_is_that_of_diffusers() -> None:
    """Table, noising and what the network is told; the variances entry by entry."""
    diffusers = pytest.importorskip("diffusers", reason="the independent implementation")
    theirs = diffusers.DDPMScheduler(1000, 1e-4, 0.02, "linear", variance_type="fixed_large")
    denoiser = Unconditional(PRESETS["ddpm-cifar10"]).build()
    schedule = denoiser.schedule
    assert isinstance(schedule, DiscreteBetas)
    torch.testing.assert_close(
        torch.tensor(schedule.betas).double(), theirs.betas.double(), rtol=1e-5, atol=0
    )
    index = torch.tensor([0, 1, 10, 500, 999])
    x0 = torch.rand(5, 3, 8, 8, generator=generator())
    drawn = Drawn(schedule.time_of_index(index), torch.ones(5, dtype=torch.float64))
    batch = noisy_batch(denoiser, x0, drawn, generator(1))
    assert torch.equal(batch.conditioning, index.float())
    noised = theirs.add_noise(2 * x0 - 1, batch.target, index)
    torch.testing.assert_close(batch.x_t, noised, rtol=1e-5, atol=1e-5)
    step = table_step(schedule, denoiser.parametrisation, drawn.t)
    large = torch.tensor([float(theirs._get_variance(i)) for i in index[1:]])
    torch.testing.assert_close(step.forward[1:].float(), large, rtol=1e-3, atol=0)
    small = torch.tensor(
        [float(theirs._get_variance(i, variance_type="fixed_small")) for i in index[1:]]
    )
    torch.testing.assert_close(step.posterior[1:].float(), small, rtol=1e-3, atol=0)
    assert step.posterior[0] == step.posterior[1]  # "to get a better decoder log likelihood"


def test_ddpm_starts_as_in_the_paper() -> None:
    """Uniform fan average, the ends of all branches and every bias at zero."""
    for name, value in Unconditional(PRESETS["ddpm-cifar10"]).build().net.state_dict().items():
        ends = name.endswith(("conv2.weight", "to_out.0.weight", "conv_out.weight"))
        if name.endswith("bias") or ends:
            assert not value.any(), name
        elif "norm" in name:
            assert bool((value == 1).all()), name
        else:
            receptive = value[0, 0].numel()
            limit = (6 / (receptive * (value.shape[0] + value.shape[1]))) ** 0.5
            assert float(value.abs().max()) == pytest.approx(limit, rel=0.02), name
            assert float(value.std()) == pytest.approx(limit / 3**0.5, rel=0.05), name


def test_fast_runs_are_small() -> None:
    assert parameters("cifar10-fast") <= 20_000_000  # 40 MB as bfloat16
    assert parameters("cifar10-small") <= 10_000_000
    fast = PRESETS["cifar10-fast"]
    assert fast.average_decay == pytest.approx(1 - 1 / (0.05 * fast.steps))
    assert learning_rate(fast, fast.steps) == pytest.approx(0, abs=1e-12)


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(PRESETS["tiny"].to_dict() | {"steps": 7}))
    assert load_config(str(path)).steps == 7


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ('{"netwrk": {}}', "netwrk"),
        ("[1, 2]", "does not describe a run"),
        ("{", "does not describe a run"),
        ('{"network": {}, "precision": "fp8"}', "precision: 'fp8'; give one of bf16, no"),
        ('{"network": {}, "objective": "l1"}', "objective: 'l1'; give one of simple, bound"),
        ('{"network": {}, "times": "sorted"}', "times: 'sorted'.*importance"),
        ('{"network": {}, "symmetries": "all"}', "symmetries: 'all'.*flips"),
        ('{"network": {}, "ema_share": 2}', "ema_share: 2"),
        ('{"network": {}, "patch": 12}', "patch: 12 pixels.*multiple of 8"),
        ('{"network": {}, "steps": 0}', "steps: 0"),
        ('{"network": {"act_fn": "gelu"}}', "act_fn"),
    ],
)
def test_bad_files_are_named_in_one_line(tmp_path: Path, content: str, named: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(content)
    with pytest.raises(CertesError, match=named) as caught:
        load_config(str(path))
    assert "\n" not in str(caught.value)


def test_neither_preset_nor_file() -> None:
    with pytest.raises(InputError, match=r"'huge' is no file and no preset.*nuclei"):
        load_config("huge")
