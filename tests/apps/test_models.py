"""certes models: what is shown, foreign models measured, ours written for diffusers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from certes.diffusion.parametrisation import Parametrisation
from certes.diffusion.rates import RateCurve
from certes.diffusion.schedules import linear_betas
from certes.networks import Model, NetworkDenoiser, UNet, UNetConfig, load
from certes.networks.export import save_diffusers
from certes.networks.model import bundled_models, save_model

from .helpers import FEW, Certes


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A folder as diffusers writes it: a network and a table, and nothing measured."""
    config = UNetConfig(
        sample_size=16,
        in_channels=1,
        out_channels=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
    )
    torch.manual_seed(0)
    denoiser = NetworkDenoiser(UNet(config), linear_betas(), Parametrisation("noise"))
    card = {"scheduler": {"variance_type": "fixed_large"}}
    save_diffusers(Model("foreign", denoiser, card, ""), tmp_path / "foreign")
    return tmp_path / "foreign"


def test_show(certes: Certes, model: Path, foreign: Path) -> None:
    ours = certes("models", "show", model, "--json").json
    assert (ours["head"], ours["prediction"], ours["licence"]) == ("residual", "v", "CC0-1.0")
    assert ours["parameters"] == sum(v.numel() for v in load(model).denoiser.net.parameters())
    theirs = certes("models", "show", foreign, "--json").json
    assert (theirs["head"], theirs["prediction"], theirs["source"]) == (None, "noise", "diffusers")
    assert len(theirs["schedule"]["betas"]) == 1000
    told = certes("models", "show", foreign).out.splitlines()
    assert max(map(len, told)) < 250
    assert any(line.startswith("schedule: ") and line.endswith("--json)") for line in told)


def test_rates_are_shown_in_short(certes: Certes, foreign: Path, tmp_path: Path) -> None:
    assert certes("models", "show", foreign, "--json").json["rates"] is None
    denoiser = load(foreign, dtype=torch.float32).denoiser
    levels = torch.logspace(-2.7, 1, 33, dtype=torch.float64)
    # Every value is Gaussian with a standard deviation of 0.2, and its tail an ideal one.
    mse = 1 / (1 / 0.2**2 + 1 / levels**2)
    rate, whole = torch.log2(1 + (0.2 / levels) ** 2) / 2, 7.5
    denoiser.rates = RateCurve(levels, mse, whole - rate)
    save_model(tmp_path / "rated", denoiser, {"name": "rated"}, torch.float32)
    shown = certes("models", "show", tmp_path / "rated", "--json").json["rates"]
    assert shown["lossless_bits_per_value"] == pytest.approx(whole, abs=0.01)
    for level, bits in shown["bits_per_value"].items():
        expected = math.log2(1 + (0.2 / float(level)) ** 2) / 2
        assert bits == pytest.approx(expected, abs=0.01)


def test_export(certes: Certes, foreign: Path, model: Path, tmp_path: Path) -> None:
    answer = certes("models", "export", foreign, tmp_path / "again", "--json")
    assert answer.code == 0, answer
    assert answer.json["hash"] == load(foreign).hash == load(tmp_path / "again").hash
    scheduler = tmp_path / "again" / "scheduler" / "scheduler_config.json"
    assert json.loads(scheduler.read_text())["variance_type"] == "fixed_large"
    refused = certes("models", "export", model, tmp_path / "never")
    assert refused.code == 2
    assert "stem: diffusers cannot express" in refused.err
    assert not (tmp_path / "never").exists()


def test_measured_models_restore(
    certes: Certes, foreign: Path, folder: Path, picture: Path, tmp_path: Path
) -> None:
    out = tmp_path / "measured"
    task = ("restore", picture, "--task", "deblur", "--noise", 0.1, *FEW, "--out", tmp_path / "r")
    before = certes(*task, "--model", foreign)
    assert before.code == 2
    assert "no residual spectrum" in before.err
    measured = certes(
        "models", "measure", foreign, "--data", folder, "--out", out, "--licence", "MIT", "--json"
    )
    assert measured.code == 0, measured
    assert measured.json["hash"] == load(out).hash
    assert measured.json["pictures"] == 4
    assert measured.json["inflation"] == load(out).inflation
    shown = certes("models", "show", out, "--json").json
    assert (shown["name"], shown["source"], shown["licence"]) == ("foreign", "diffusers", "MIT")
    assert shown["scheduler"] == {"variance_type": "fixed_large", "clip_sample": True}
    assert certes(*task, "--model", out).code == 0


def test_measure_refuses(certes: Certes, foreign: Path, folder: Path, tmp_path: Path) -> None:
    for data, out, named in (
        (folder, foreign, "holds something else"),
        (tmp_path / "nowhere", tmp_path / "out", "is no folder"),
    ):
        answer = certes("models", "measure", foreign, "--data", data, "--out", out)
        assert answer.code == 2
        assert named in answer.err


def test_bundled_models_are_listed_and_shown_with_all_that_is_known(certes: Certes) -> None:
    listed = {model["name"]: model for model in certes("models", "list", "--json").json["models"]}
    assert set(listed) == set(bundled_models())
    assert all(model["summary"] and model["cards"] for model in listed.values())
    lines = certes("models", "show", "nuclei").out.splitlines()
    for heading in ("Scores", "What it expects to spend", "Size of the picture"):
        assert heading in lines
    shown = certes("models", "show", "nuclei", "--json").json
    assert [card["name"] for card in shown["cards"]] == [
        "deblur",
        "denoise",
        "inpaint",
        "super-resolve",
    ]
    octaves = shown["rates"]["bits_per_value_each_octave"]
    rates = load("nuclei").rates
    assert rates is not None
    assert sum(octaves.values()) == pytest.approx(
        float(rates.rate(2**-7) - rates.rate(1)), abs=1e-3
    )
