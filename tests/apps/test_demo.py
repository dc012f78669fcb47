"""certes demo and certes models."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from certes.data.pictures import read_picture
from certes.networks.model import bundled_models

from .helpers import FEW, Certes, names


def test_demo(certes: Certes, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    answer = certes("demo", "--model", model, "--crop", 32, *FEW, "--out", out)
    assert answer.code == 0
    assert names(out) == ["deblur", "denoise", "inpaint", "super-resolve"]
    for folder in out.iterdir():
        assert len([name for name in names(folder) if name.endswith(".panel.png")]) == 4
        assert folder.name in answer.out
    reports = [json.loads((folder / "report.json").read_text()) for folder in out.iterdir()]
    assert {report["task"]: report["noise"] for report in reports} == {
        "denoise": 0.1,
        "super-resolve": 0.02,
        "inpaint": 0.02,
        "deblur": 0.02,
    }


def test_models(certes: Certes, model: Path, tmp_path: Path) -> None:
    listed = certes("models", "list", "--json").json["models"]
    assert [entry["name"] for entry in listed] == bundled_models()
    assert certes("models", "list").code == 0
    shown = certes("models", "show", model)
    assert "name: tiny" in shown.out
    assert certes("models", "show", tmp_path).code == 2


def test_sample(certes: Certes, model: Path, tmp_path: Path) -> None:
    usual = ("--model", model, "--steps", 2)
    answer = certes("sample", *usual, "-n", 3, "--out", tmp_path / "three", "--json")
    assert answer.json["files"] == [*(f"sample-00{i}.png" for i in range(3)), "samples.png"]
    assert names(tmp_path / "three") == answer.json["files"]
    certes("sample", *usual, "-n", 1, "--out", tmp_path / "one")
    first, alone = (read_picture(tmp_path / n / "sample-000.png").pixels for n in ("three", "one"))
    assert first.shape == (1, 16, 16)
    assert (first - alone).abs().max() <= 1 / 255
    grid = read_picture(tmp_path / "three" / "samples.png").pixels
    assert grid.shape == (1, 34, 34)
    assert torch.equal(grid[:, :16, :16], first)
    assert bool((grid[:, 18:, 18:] == 0).all())
