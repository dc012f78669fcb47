"""Killed, or refused by the system, a command leaves every file as it was or whole.

Every run in here is short; `benchmarks/durability.py` kills real command lines at random moments.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from certes.apps import plans
from certes.apps.cli import _say_of_thread, app
from certes.apps.jobs import codec, evaluate
from certes.data import files
from certes.data.files import PREFIX
from certes.data.pictures import Picture, write_picture
from certes.evaluation.findings import Findings
from certes.training import publish

from .commands import CALLS, Bench, make_bench
from .killing import files_in, halves, hidden_in, killed, refused

SMALL = np.zeros((1, 16, 16), np.float32)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Generator[Bench]:
    """What commands are given; what they draw for people, and measure at length, is cut short."""
    with pytest.MonkeyPatch.context() as patch:
        for job in (codec, evaluate, plans):
            patch.setattr(job, "restoration_panel", _blank)
        patch.setattr(Findings, "figures", lambda self: iter(()))
        patch.setattr(publish, "measure_residuals", lambda *a, **k: None)
        patch.setattr(publish, "measure_inflation", lambda *a, **k: 1.0)
        patch.setattr(publish, "measure_rates", lambda *a, **k: None)
        patch.setattr(threading, "excepthook", _say_of_thread)  # as `main` does
        yield make_bench(tmp_path_factory.mktemp("bench"))


def _blank(path: Path, *_: object, **__: object) -> None:
    import torch

    pixels = torch.zeros(1, 8, 8)
    write_picture(path, pixels, Picture("a", pixels, None, "uint8"))


def call(bench: Bench, command: str, out: Path, seed: int) -> Result:
    arguments = CALLS[command](bench, out, seed)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def out(bench: Bench, tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.mark.parametrize("command", CALLS)
def test_killed_while_writing(bench: Bench, out: Path, command: str) -> None:
    done = call(bench, command, out, 0)
    assert done.exit_code == 0, done.output
    before, unfinished = files_in(out), 0
    for change in (1, 4):
        assert killed(lambda: call(bench, command, out, 1), out, change)
        assert halves(before, files_in(out)) == []
        unfinished += bool(hidden_in(out))
    assert unfinished
    files._sweep_once.cache_clear()  # the next run is another process
    again = call(bench, command, out, 2)
    assert again.exit_code == 0, again.output
    assert hidden_in(out) == []
    assert halves(before, files_in(out)) == []


@pytest.mark.parametrize("command", CALLS)
@pytest.mark.parametrize("change", [0, 2])
def test_a_full_disk(bench: Bench, out: Path, command: str, change: int) -> None:
    """The system refuses to make the hidden folder, or the first file in it."""
    assert call(bench, command, out, 0).exit_code == 0
    before, answers = files_in(out), list[Result]()
    refused(lambda: answers.append(call(bench, command, out, 1)), out, change, errno.ENOSPC)
    (answer,) = answers
    assert answer.exit_code == 2, answer.output
    assert one_error(answer) == os.strerror(errno.ENOSPC)
    assert str(out) in answer.stderr
    assert PREFIX not in answer.stderr
    assert files_in(out) == before
    assert hidden_in(out) == []


@pytest.mark.parametrize("command", CALLS)
def test_a_folder_that_may_not_be_written_to(bench: Bench, tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("here")
    answer = call(bench, command, tmp_path / "file" / "out", 0)
    assert answer.exit_code == 2, answer.output
    assert one_error(answer) in (os.strerror(errno.ENOTDIR), os.strerror(errno.EEXIST))
    assert (tmp_path / "file").read_text() == "here"


def one_error(answer: Result) -> str:
    """What the one line of an error says last."""
    assert "Traceback" not in answer.stderr
    (line,) = (text for text in answer.stderr.splitlines() if text.startswith("error: "))
    return line.rpartition(": ")[2]
