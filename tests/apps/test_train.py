"""certes train: a model folder that restores, and a run that goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from .helpers import FEW, Certes, save

CONFIG = {
    "network": {
        "sample_size": 16,
        "in_channels": 1,
        "out_channels": 2,
        "block_out_channels": [8, 8],
        "down_block_types": ["DownBlock2D"] * 2,
        "up_block_types": ["UpBlock2D"] * 2,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "add_attention": False,
        "attention_head_dim": None,
        "stem": 2,
    },
    "patch": 16,
    "batch": 2,
    "steps": 2,
    "warmup": 1,
    "precision": "no",
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "small.json"
    path.write_text(json.dumps(CONFIG))
    return path


def test_train_then_restore(
    certes: Certes, config: Path, folder: Path, picture: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    arguments = ("train", config, "--data", folder, "--out", run, "--licence", "CC0-1.0")
    trained = certes(*arguments, "--json")
    assert trained.code == 0, trained
    assert (trained.json["pictures"], trained.json["steps"]) == (4, 2)
    shown = certes("models", "show", run / "model", "--json").json
    assert (shown["name"], shown["licence"]) == ("small", "CC0-1.0")
    assert shown["training_data"] == "truth"
    task = ("--task", "denoise", "--noise", 0.1, "--model", run / "model", *FEW)
    assert certes("restore", picture, *task, "--out", tmp_path / "out").code == 0
    promise = ("--alpha", 0.5, "--delta", 0.4, "--crop", 32, "--out", tmp_path / "card.json")
    calibrated = certes("calibrate", *task, *promise, "--data", folder)
    assert calibrated.code == 2
    assert "of 4 pictures, 4 served to train the model" in calibrated.err
    again = certes(*arguments)
    assert again.code == 2
    assert "--resume" in again.err
    assert certes(*arguments, "--resume").code == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preset": "gigantic"}, "'gigantic' is no file and no preset"),
        ({"data": "nowhere"}, "data: nowhere is no folder"),
    ],
)
def test_refusals(
    certes: Certes,
    config: Path,
    folder: Path,
    tmp_path: Path,
    change: dict[str, str],
    message: str,
) -> None:
    preset, data = change.get("preset", config), change.get("data", folder)
    answer = certes("train", preset, "--data", data, "--out", tmp_path / "run")
    assert answer.code == 2
    assert message in answer.err
    assert not (tmp_path / "run").exists()


def test_pictures_that_do_not_fit(certes: Certes, config: Path, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    save(tmp_path / "small" / "a.png", torch.rand(1, 8, 8))
    answer = certes("train", config, "--data", tmp_path / "small", "--out", tmp_path / "run")
    assert answer.code == 2
    assert "do not fit in a picture 8 pixels small" in answer.err
