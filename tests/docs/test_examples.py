"""Every example runs as it is, in an empty folder, and prints and writes what it is there for.

Takes some ten seconds an example on one thread.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

import certes

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
PATIENCE = 900  # seconds: a stuck example shall not stop everything

Check = Callable[[list[float], str, Path], None]


def run(script: Path, folder: Path) -> str:
    """What a script prints, run as a user runs it."""
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=os.environ | {"MPLBACKEND": "agg"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def numbers(text: str) -> list[float]:
    return [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", text)]


def restored(found: list[float], _: str, folder: Path) -> None:
    before, after, inside = found[:3]
    assert after > before + 3
    assert 60 < inside <= 100
    assert Image.open(folder / "restored.png").size == (48, 48)
    assert cast(Any, Image.open(folder / "intervals.tif")).n_frames == 3
    assert (folder / "panel.png").stat().st_size > 10_000


def calibrated(found: list[float], printed: str, folder: Path) -> None:
    raw = found[0]
    crc, wsr = (numbers(line) for line in printed.splitlines() if line.startswith(("crc", "wsr")))
    assert raw > 0.2  # the wrong prior is wrong
    assert wsr[0] < crc[0] < 0.1
    assert wsr[2] <= 10 <= 10 + crc[2]
    card = certes.Calibration.load(folder / "card.json")
    assert (card.alpha, card.delta, card.n) == (0.1, 0.1, 100)


def about_regions(found: list[float], _: str, folder: Path) -> None:
    width, inside = found[:2]
    pixels_width, pixels_inside = found[3:5]
    assert abs(inside - 0.9) < 0.06
    assert pixels_inside > inside
    assert pixels_width > 1.5 * width


def own_operator(found: list[float], _: str, folder: Path) -> None:
    adjoint, without, after = found[0], found[1], found[2]
    assert abs(adjoint) < 1e-9
    assert after > without + 5
    assert (folder / "rows.png").exists()


def own_denoiser(found: list[float], _: str, folder: Path) -> None:
    off, ratio, inside = found[1], found[2], found[4]
    assert off < 0.2
    assert abs(ratio - 1) < 0.1
    assert abs(inside - 0.9) < 0.07


def of_any_resolution(_: list[float], printed: str, folder: Path) -> None:
    apart = [float(n) for n in re.findall(r"differs by (\S+)", printed)]
    (spread,) = (float(n) for n in re.findall(r"vary by ([\d.]+)", printed))
    assert len(apart) == 3
    assert max(apart) < spread / 10
    assert (folder / "resolutions.png").exists()


def compressed(found: list[float], printed: str, folder: Path) -> None:
    pixels, whole = found[:2]
    assert (folder / "cell.crt").stat().st_size == whole < pixels
    qualities = [float(n) for n in re.findall(r"([\d.]+) dB", printed)]
    assert qualities == sorted(qualities)
    assert "100% of the file: every pixel exact" in printed


def conditional(found: list[float], printed: str, folder: Path) -> None:
    noisy, denoised = (float(n) for n in re.findall(r"([\d.]+) dB", printed))
    assert denoised > noisy + 1
    assert certes.load(folder / "run" / "model").name == "settings"


CHECKS: dict[str, Check] = {
    "restore_a_picture": restored,
    "calibrate_and_verify": calibrated,
    "intervals_of_regions": about_regions,
    "your_own_operator": own_operator,
    "your_own_denoiser": own_denoiser,
    "any_resolution": of_any_resolution,
    "compress_progressively": compressed,
    "conditional_model": conditional,
}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_does_what_it_is_there_for(script: Path, tmp_path: Path) -> None:
    printed = run(script, tmp_path)
    CHECKS[script.stem](numbers(printed), printed, tmp_path)


def execute(notebook: Any, folder: Path) -> None:
    """Run a notebook's cells, one after another, in `folder`."""
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=PATIENCE, resources=where).execute()


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_is_kept_without_outputs(path: Path, tmp_path: Path) -> None:
    notebook = cast(Any, nbformat.read(path, as_version=4))
    assert not outputs(notebook)
    assert all(cell.get("execution_count") is None for cell in notebook.cells)
    execute(notebook, tmp_path)
    pictures = [o for o in outputs(notebook) if "image/png" in o.get("data", {})]
    assert pictures
    told = "".join(o.get("text", "") for o in outputs(notebook))
    assert "With probability at least 0.9" in told


def test_all_examples_are_in_the_table_and_have_a_check() -> None:
    table = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for path in (*SCRIPTS, *NOTEBOOKS):
        assert f"]({path.name})" in table
    assert {script.stem for script in SCRIPTS} == set(CHECKS)
    assert len(NOTEBOOKS) == 2


def test_a_broken_script_is_noticed(tmp_path: Path) -> None:
    script = tmp_path / "broken.py"
    script.write_text("import certes\ncertes.restore(None)\n")
    with pytest.raises(AssertionError, match="InputError"):
        run(script, tmp_path)


def test_a_broken_notebook_is_noticed(tmp_path: Path) -> None:
    made = cast(Any, nbformat).v4
    notebook = made.new_notebook(cells=[made.new_code_cell("1 / 0")])
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        execute(notebook, tmp_path)


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("compress_progressively", "1024 in 9 bytes\n20%: 44.7 dB\n50%: 40.1 dB\n100% of the file"),
        ("of_any_resolution", "differs by 0.1 differs by 0.2 differs by 0.1 vary by 0.2"),
        ("your_own_denoiser", "200 samples 0.5 off 1.3 times 90 % 0.7"),
    ],
)
def test_the_checks_can_fail(name: str, printed: str, tmp_path: Path) -> None:
    (tmp_path / "cell.crt").write_bytes(b"123456789")
    check = CHECKS.get(name, of_any_resolution)
    with pytest.raises(AssertionError):
        check(numbers(printed), printed, tmp_path)
