"""Pictures that served to train, or to calibrate, are no proof of anything."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from certes.data.patches import load_folder
from certes.training.fitted import Fitted

from .helpers import FEW, Certes

USUAL = ("--task", "denoise", "--noise", 0.1, "--crop", 32, "--alpha", 0.5, *FEW)
PROMISE = ("--delta", 0.4)


@pytest.fixture
def trained(model: Path, folder: Path, tmp_path: Path) -> Path:
    """A model that was trained on two of the four pictures in the folder."""
    own = Path(shutil.copytree(model, tmp_path / "model"))
    Fitted.to(load_folder(folder)[:2]).save(own)
    return own


def test_training_pictures_calibrate_nothing(
    certes: Certes, trained: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("certes.apps.experiment.Experiment.run", pytest.fail)
    out = tmp_path / "card.json"
    known = ("--model", trained, "--data", folder)
    answer = certes("calibrate", *USUAL, *PROMISE, *known, "--out", out)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "of 4 pictures, 2 served to train the model (cell-0, cell-1)" in answer.err
    assert not out.exists()


def test_new_pictures_calibrate(
    certes: Certes, trained: Path, folder: Path, tmp_path: Path
) -> None:
    Fitted.to(load_folder(folder)[:0]).save(trained)
    known = ("--model", trained, "--data", folder)
    answer = certes("calibrate", *USUAL, *PROMISE, *known, "--out", tmp_path / "card.json")
    assert answer.code == 0
    assert "cannot be checked" not in answer.err


def test_a_model_without_fingerprints_is_said_to_be_unchecked(
    certes: Certes, model: Path, folder: Path, tmp_path: Path
) -> None:
    arguments = (*USUAL, *PROMISE, "--model", model, "--data", folder)
    answer = certes("calibrate", *arguments, "--out", tmp_path / "card.json")
    assert answer.code == 0
    assert answer.err.count("cannot be checked") == 1


def test_the_pictures_of_the_calibration_verify_nothing(
    certes: Certes, model: Path, folder: Path, tmp_path: Path
) -> None:
    card = tmp_path / "card.json"
    known = ("--model", model, "--data", folder)
    assert certes("calibrate", *USUAL, *PROMISE, *known, "--out", card).code == 0
    (folder / "cell-3.png").unlink()
    refused = certes("verify", card, *known, "--crop", 32)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "of 3 pictures, 3 served to calibrate the card (cell-0, cell-1, cell-2)" in refused.err
    shown = ("--calibration", card, "--out", tmp_path / "out")
    warned = certes("evaluate", *USUAL, *known, *shown)
    assert warned.code == 0
    assert "warning: data: of 3 pictures, 3 served to calibrate the card" in warned.err


def test_training_pictures_are_evaluated_with_a_warning(
    certes: Certes, trained: Path, folder: Path, tmp_path: Path
) -> None:
    known = ("--model", trained, "--data", folder, "--out", tmp_path / "out")
    answer = certes("evaluate", *USUAL, *known)
    assert answer.code == 0
    assert "warning: data: of 4 pictures, 2 served to train the model" in answer.err


def test_a_tuned_model_knows_the_pictures_of_its_start(
    certes: Certes, trained: Path, folder: Path, tmp_path: Path
) -> None:
    others = tmp_path / "others"
    others.mkdir()
    (folder / "cell-3.png").rename(others / "cell-3.png")
    small = ("--task", "super-resolve", "--size", 2, "--steps", 1)
    run = tmp_path / "run"
    tuned = certes("tune", trained, *small, "--data", others, "--out", run)
    assert tuned.code == 0, tuned.err
    fitted = Fitted.load(run / "model")
    assert fitted is not None
    known = [fitted.trained.knows(p) for p in [*load_folder(folder), *load_folder(others)]]
    assert known == [True, True, False, True]
