"""certes train and certes tune, started as two processes; a start takes seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from certes.networks.model import load

from ..training.distributed import Ended, together
from .helpers import Certes
from .stopped_training import STEP
from .test_train import CONFIG

PICTURES = Path(__file__).parent.parent / "data" / "nuclei-train"
PROGRAM = ("-m", "certes")
STOPPED = Path(__file__).parent / "stopped_training.py"


def train(*program: object, preset: object, out: Path) -> Ended:
    words = map(str, (*program, "train", preset))
    return together(*words, "--data", PICTURES, "--out", out)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A run that is long enough to be stopped in its midst."""
    path = tmp_path / "small.json"
    path.write_text(json.dumps(CONFIG | {"steps": STEP + 1, "checkpoint_every": 2}))
    return path


def test_one_of_them_speaks_and_publishes(small: Path, tmp_path: Path) -> None:
    answer = train(*PROGRAM, preset=small, out=tmp_path / "run")
    assert answer.code == 0, answer.err
    assert len(answer.out.splitlines()) == 1
    assert "Trained on 12 pictures" in answer.out
    assert load(tmp_path / "run" / "model").rates is not None


def test_bounds_learned_from_samples(certes: Certes, tmp_path: Path) -> None:
    """The samples are drawn by one of them, and learned from by both."""
    start = tmp_path / "start"
    assert certes("train", "tiny-conditional", "--data", PICTURES, "--out", start).code == 0
    tuned = ("tune", start / "model", "--sampled", "16", "--steps", "4", "--data", PICTURES)
    answer = together(*PROGRAM, *tuned, "--out", tmp_path / "bounds")
    assert answer.code == 0, answer.err
    assert answer.out.startswith("dm-sba: learned from 12 pictures")
    assert (tmp_path / "bounds" / "sampled.safetensors").is_file()
    shown = certes("models", "show", tmp_path / "bounds" / "model", "--json").json
    assert shown["steps"] == 4


def test_what_is_wrong_for_all_is_said_once(tmp_path: Path) -> None:
    answer = train(*PROGRAM, preset="gigantic", out=tmp_path / "run")
    assert answer.code != 0
    assert answer.errors == [line for line in answer.errors if "'gigantic' is no file" in line]
    assert len(answer.errors) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_of_one_ends_all(small: Path, tmp_path: Path, rank: int) -> None:
    answer = train(STOPPED, "error", rank, preset=small, out=tmp_path / "run")
    assert answer.code != 0
    assert answer.errors == [f"error: data: process {rank} has lost a picture"]
    assert answer.out == ""
    assert not (tmp_path / "run" / "model").exists()


def test_a_killed_process_ends_all_and_the_run_goes_on(
    certes: Certes, small: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    answer = train(STOPPED, "kill", 1, preset=small, out=run)
    assert answer.code != 0
    assert not (run / "model").exists()
    assert {path.name for path in run.iterdir()} >= {"checkpoint.safetensors"}
    again = certes("train", small, "--data", PICTURES, "--out", run, "--resume")
    assert again.code == 0, again
    assert (run / "model" / "certes.json").is_file()
