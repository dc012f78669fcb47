"""certes likelihood: files, numbers, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
import torch

import certes as library
from certes.apps.commands.likelihood import VarianceName
from certes.data.pictures import find_pictures, read_picture
from certes.diffusion.likelihood import bound_times, flow_likelihood, variational_bound
from certes.diffusion.parametrisation import Parametrisation
from certes.diffusion.process import Process
from certes.diffusion.reverse import Variance
from certes.diffusion.schedules import Cosine
from certes.networks.denoiser import NetworkDenoiser
from certes.networks.model import save_model
from certes.networks.unet import UNet, UNetConfig

from .helpers import Certes, grey, names, save

FEW = ("--steps", 8, "--levels", 3)


def test_it_is_the_bound_of_the_library(
    certes: Certes, model: Path, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    answer = certes(
        "likelihood", folder, "--model", model, "--variance", "all", *FEW, "--seed", 5,
        "--crop", 16, "--out", out, "--json",
    )  # fmt: skip
    assert (answer.code, answer.err) == (0, "")
    assert names(out) == ["likelihood.json", "rate-distortion.png"]
    assert answer.json == json.loads((out / "likelihood.json").read_text())
    assert (answer.json["steps"], answer.json["calls"]) == (8, 4)
    assert answer.json["pictures"] == [f"cell-{i}" for i in range(4)]

    pictures = torch.stack([read_picture(p).pixels[:, 8:24, 8:24] for p in find_pictures([folder])])
    loaded = library.load(str(model))
    network = loaded.denoiser
    bounds = variational_bound(
        Process(network.schedule, center=network.center, scale=network.scale),
        loaded,
        pictures,
        bound_times(network.schedule, network.scale, 8),
        ["large", "small", "learned", "calibrated"],
        levels=3,
        seed=5,
        keys=answer.json["pictures"],
    )
    assert answer.json["bounds"] == [bound.to_dict() for bound in bounds.values()]


def test_table_of_one_picture(certes: Certes, model: Path, picture: Path, tmp_path: Path) -> None:
    """The best variance by default; a single picture has no standard error."""
    answer = certes("likelihood", picture, "--model", model, *FEW, "--out", tmp_path / "out")
    assert answer.code == 0
    (row,) = (line for line in answer.out.splitlines() if "calibrated" in line)
    bound = json.loads((tmp_path / "out" / "likelihood.json").read_text())["bounds"][0]
    assert row.split()[:3] == ["calibrated", f"{bound['bits_per_dimension']:.3f}", "-"]
    assert not any(name in answer.out for name in ("small", "large", "learned"))


def test_the_flow_is_that_of_the_library(
    certes: Certes, model: Path, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    answer = certes(
        "likelihood", folder, "--model", model, "--method", "flow", "--crop", 8, "--seed", 5,
        "--probes", 2, "--out", out, "--json",
    )  # fmt: skip
    assert (answer.code, answer.err) == (0, "")
    assert names(out) == ["likelihood.json"]
    assert answer.json == json.loads((out / "likelihood.json").read_text())
    assert answer.json["method"] == "flow"

    pictures = torch.stack(
        [read_picture(p).pixels[:, 12:20, 12:20] for p in find_pictures([folder])]
    )
    loaded = library.load(str(model), dtype=torch.float32)
    network = loaded.denoiser
    result = flow_likelihood(
        Process(network.schedule, center=network.center, scale=network.scale),
        loaded,
        pictures,
        seed=5,
        keys=answer.json["pictures"],
        probes=2,
        tolerance=answer.json["tolerance"],
    )
    said = answer.json["flow"]
    assert said == json.loads(json.dumps(result.to_dict()))
    assert said["bits_per_dimension"] > 0
    assert answer.json["calls"] == max(said["evaluations"])


def test_the_flow_in_a_table(certes: Certes, model: Path, picture: Path, tmp_path: Path) -> None:
    """A single picture has no standard error, a single probe neither."""
    answer = certes(
        "likelihood", picture, "--model", model, "--method", "flow", "--crop", 8, "--probes", 1,
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert answer.code == 0
    (row,) = (line for line in answer.out.splitlines() if "flow " in line)
    flow = json.loads((tmp_path / "out" / "likelihood.json").read_text())["flow"]
    assert row.split() == ["flow", f"{flow['bits_per_dimension']:.3f}", "-", "-"]
    assert f"network calls for each: {flow['evaluations'][0]}." in answer.out


@pytest.mark.parametrize(
    ("method", "option"),
    [("flow", "variance"), ("flow", "steps"), ("flow", "levels"), ("bound", "probes")],
)
def test_options_of_the_other_method(
    certes: Certes, model: Path, picture: Path, tmp_path: Path, method: str, option: str
) -> None:
    value = "small" if option == "variance" else 5
    answer = certes(
        "likelihood", picture, "--model", model, "--method", method, f"--{option}", value,
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == (f"error: {option}: means nothing for --method {method}; leave it out\n")


def plain_model(folder: Path) -> Path:
    """It predicts no variance, and nothing about it was measured."""
    config = UNetConfig(
        sample_size=16, in_channels=1, out_channels=1, down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",), block_out_channels=(8,), layers_per_block=1,
        norm_num_groups=4, add_attention=False, attention_head_dim=None,
    )  # fmt: skip
    denoiser = NetworkDenoiser(UNet(config), Cosine(), Parametrisation("v"))
    save_model(folder, denoiser, {"name": "plain"}, torch.float32)
    return folder


@pytest.mark.parametrize(
    ("variance", "told"),
    [((), ["small"]), (("--variance", "all"), ["large", "small"]), (("--variance", "learned"), [])],
)
def test_variances_that_a_model_knows(
    certes: Certes, tmp_path: Path, picture: Path, variance: tuple[str, ...], told: list[str]
) -> None:
    plain = plain_model(tmp_path / "plain")
    answer = certes(
        "likelihood", picture, "--model", plain, *variance, *FEW, "--out", tmp_path / "o", "--json"
    )
    if told:
        assert [bound["variance"] for bound in answer.json["bounds"]] == told
    else:
        assert (answer.code, answer.out) == (2, "")
        assert answer.err.startswith("error: variance: 'learned' is nothing that plain knows")
        assert not (tmp_path / "o").exists()


def test_names_of_variances() -> None:
    """They are written twice because the library's own need torch to be read."""
    assert {str(name) for name in VarianceName} == {*get_args(Variance), "all"}


def test_refusals(certes: Certes, model: Path, tmp_path: Path) -> None:
    small, deep = grey(tmp_path / "in" / "cell.png"), tmp_path / "deep.png"
    save(deep, read_picture(small).pixels, "uint16")
    large = save(tmp_path / "large.png", torch.rand(1, 40, 32))
    colour = save(tmp_path / "colour.png", torch.rand(3, 32, 32))
    for pictures, message in {
        (deep,): "uint16 samples; bits are counted for 8-bit pictures",
        (small, large): "cell is 1 x 32 x 32, large is 1 x 40 x 32",
        (colour,): "trained on 1 channel(s), the picture has 3",
        (tmp_path / "none.png",): "none.png",
    }.items():
        answer = certes("likelihood", *pictures, "--model", model, *FEW, "--out", tmp_path / "out")
        assert answer.code == 2
        assert message in answer.err
        assert answer.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
