"""Models of functions in the program: trained, drawn from, asked to restore, and shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from certes.apps.cli import app
from certes.data.pictures import read_picture
from certes.function_space import certificate
from certes.function_space.filter_measuring import measure_filter
from certes.function_space.publish import publish_functions
from certes.training.inflation import measure_inflation
from certes.training.residuals import measure_residuals

from .helpers import FEW, Certes, grey

LEVELS = torch.tensor([0.02, 0.3], dtype=torch.float64)


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much is measured as a test has time for."""
    for function in (measure_filter, measure_residuals):
        monkeypatch.setattr(function, "__defaults__", (LEVELS, *function.__defaults__[1:]))
    monkeypatch.setattr(measure_inflation, "__defaults__", (2, 2, 0))
    monkeypatch.setattr(publish_functions, "__defaults__", (8,))
    monkeypatch.setattr(certificate, "_STEPS", 2)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training run on four pictures."""
    folder, out = tmp_path_factory.mktemp("truth"), tmp_path_factory.mktemp("runs") / "run"
    for i in range(4):
        grey(folder / f"cell-{i}.png", i)
    with pytest.MonkeyPatch.context() as monkeypatch:
        quick(monkeypatch)
        arguments = ("train", "tiny-functions", "--data", folder, "--out", out, "--json")
        trained = CliRunner().invoke(app, [str(a) for a in arguments])
    assert trained.exit_code == 0, trained.output
    assert (json.loads(trained.stdout)["pictures"], json.loads(trained.stdout)["steps"]) == (4, 20)
    assert (out / "samples-20.png").is_file()
    return out


def test_shown_with_its_certificate(certes: Certes, run: Path) -> None:
    model = run / "model"
    shown = certes("models", "show", model, "--json").json
    assert (shown["kind"], shown["pitch"], shown["latent"]) == ("function_space", 1.0, 32)
    errors = shown["certificate"]["operator_error"]
    lines = certes("models", "show", model).out.splitlines()
    assert any(line.split()[:2] == ["2", f"{errors['2']:.2%}"] for line in lines)
    assert any("aliased energy" in line for line in lines)
    fine = certes("models", "show", f"{model}@2x", "--json").json
    assert fine["pitch"] == 0.5
    assert fine["hash"] != shown["hash"]


@pytest.mark.parametrize(("which", "side"), [("", 16), ("@2x", 32), ("@1.5x", 24)])
def test_sample(certes: Certes, run: Path, tmp_path: Path, which: str, side: int) -> None:
    usual = ("--steps", 2, "-n", 2, "--out", tmp_path / "drawn", "--json")
    answer = certes("sample", "--model", f"{run / 'model'}{which}", *usual)
    assert answer.code == 0, answer
    assert answer.json["size"] == side
    drawn = read_picture(tmp_path / "drawn" / "sample-001.png").pixels
    assert drawn.shape == (1, side, side)


def test_a_seed_is_a_function(certes: Certes, run: Path, tmp_path: Path) -> None:
    """Drawn twice as fine it is the same one; another seed is another."""

    def drawn(which: str, side: int, seed: int) -> torch.Tensor:
        out = tmp_path / f"{side}-{seed}"
        arguments = ("--size", side, "-n", 1, "--seed", seed, "--steps", 5, "--out", out)
        certes("sample", "--model", f"{run / 'model'}{which}", *arguments)
        pixels = read_picture(out / "sample-000.png").pixels
        return torch.nn.functional.adaptive_avg_pool2d(pixels, 8).flatten()

    coarse, fine, other = drawn("", 16, 3), drawn("@2x", 32, 3), drawn("", 16, 4)
    alike = torch.corrcoef(torch.stack([coarse, fine, other]))
    assert float(alike[0, 1]) > 0.9
    assert float(alike[0, 2]) < 0.6


def test_restore_and_calibrate(
    certes: Certes, run: Path, folder: Path, picture: Path, tmp_path: Path
) -> None:
    task = ("--task", "super-resolve", "--noise", 0.1, "--model", f"{run / 'model'}@2x", *FEW)
    measured, out = tmp_path / "measured", tmp_path / "out"
    degrade = ("degrade", picture, "--task", "super-resolve", "--noise", 0.1)
    assert certes(*degrade, "--out", measured).code == 0
    restored = certes("restore", measured / "cell.degraded.tif", *task, "--out", out, "--json")
    assert restored.code == 0, restored
    (path,) = out.glob("*.restored.*")
    assert read_picture(path).pixels.shape == (1, 32, 32)
    promise = ("--alpha", 0.5, "--delta", 0.4, "--crop", 32, "--out", tmp_path / "card.json")
    calibrated = certes("calibrate", *task, *promise, "--data", folder)
    assert calibrated.code == 2
    assert "of 4 pictures, 4 served to train the model" in calibrated.err


def test_refusals_in_a_line(certes: Certes, run: Path, picture: Path, tmp_path: Path) -> None:
    model = run / "model"
    refused = certes("likelihood", picture, "--model", model, "--out", tmp_path / "l")
    assert refused.code == 2
    assert "function_space models know functions" in refused.err
    refused = certes("sample", "--model", f"{model}@3", "--out", tmp_path / "s")
    assert refused.code == 2
    assert "@2x" in refused.err
