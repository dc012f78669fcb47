"""certes score: from folders of pictures to a table or JSON that says what it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from certes.apps.commands.score import FitName
from certes.evaluation.folders import FITS

from .helpers import Certes, names, save


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """As `certes sample` leaves them: samples, one of them in frames, and a sheet of all."""
    folder = tmp_path / "samples"
    folder.mkdir()
    torch.manual_seed(0)
    for i in range(6):
        save(folder / f"sample-{i:03d}.png", torch.rand(1, 16, 16))
    save(folder / "sample-000.frame-00.png", torch.rand(1, 16, 16))
    save(folder / "samples.png", torch.rand(1, 50, 34))
    return folder


def test_names_of_fits() -> None:
    assert tuple(FitName) == FITS


def test_a_table_with_the_name_of_its_features_and_warnings(
    certes: Certes, samples: Path, folder: Path, model: Path
) -> None:
    answer = certes("score", samples, "--data", folder, "--features", model, "--fit", "tiles")
    assert answer.code == 0, answer
    assert "Features: tiny mid-block, 8 numbers a picture" in answer.out
    assert "Pictures: 6 generated, 16 real" in answer.out
    rows = ("Frechet distance", "spatial Frechet", "kernel distance", "precision", "recall")
    assert all(row in answer.out for row in rows)
    assert not any(word in answer.out for word in ("FID", "KID", "nception", "class score"))
    assert "warning: Frechet distances of 6 generated and 16 real pictures are biased" in answer.err


def test_json_and_file_hold_the_same(
    certes: Certes, samples: Path, folder: Path, model: Path, tmp_path: Path
) -> None:
    arguments = ("score", samples, "--data", folder, "--features", model, "--fit", "resize")
    out = tmp_path / "scores.json"
    answer = certes(*arguments, "--json", "--out", out)
    assert answer.code == 0, answer
    assert answer.json == json.loads(out.read_text())
    assert answer.json["distance"] == "Frechet distance (features: tiny mid-block)"
    assert (answer.json["generated"], answer.json["real"], answer.json["fit"]) == (6, 4, "resize")
    assert (answer.json["published"], answer.json["inception_score"]) == (False, None)
    assert all(line in answer.err for line in answer.json["warnings"])
    assert certes(*arguments, "--json").json == answer.json


def test_a_set_against_itself_and_nothing_written(
    certes: Certes, folder: Path, tmp_path: Path
) -> None:
    before = names(tmp_path)
    answer = certes("score", folder, "--data", folder, "--json")
    assert answer.json["features"] == "nuclei mid-block"
    assert answer.json["frechet_distance"] == pytest.approx(0, abs=1e-9)
    assert (answer.json["precision"], answer.json["recall"]) == (1, 1)
    assert names(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--features", "inception"), "not part of certes: download"),
        (("--features", "nowhere"), "'nowhere' is neither a bundled model"),
        (("--weights", "w.pth"), "w.pth is for --features inception, not for --features nuclei"),
        ((), "32 x 32 pixels, the generated pictures have 16 x 16"),
    ],
)
def test_refusals(
    certes: Certes, samples: Path, folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    answer = certes("score", samples, "--data", folder, *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err


def test_folders_must_be_folders(certes: Certes, samples: Path, folder: Path) -> None:
    answer = certes("score", samples / "samples.png", "--data", folder)
    assert answer.code == 2
    assert "is no folder: give a folder of pictures" in answer.err
    (folder / "empty").mkdir()
    answer = certes("score", samples, "--data", folder / "empty")
    assert answer.code == 2
    assert "no pictures in this folder" in answer.err
