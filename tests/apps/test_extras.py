"""Commands whose packages are missing say which, and how to get them, in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from certes.data.bundled import bundled_pictures
from certes.data.pictures import write_picture

RUN = (
    "import sys; sys.modules.update(dict.fromkeys({missing!r})); "
    "from certes.apps.cli import main; sys.argv = {words!r}; main()"
)
DENOISE = ("--task", "denoise", "--noise", "0.1")
LIGHT = ("torch", "gradio", "ray", "pyarrow", "matplotlib", "torchmetrics")


def called(missing: tuple[str, ...], *words: str) -> subprocess.CompletedProcess[str]:
    """The program, where some packages are not to be had."""
    code = RUN.format(missing=missing, words=["certes", *words])
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize(
    ("extra", "missing", "words"),
    [
        ("web", ("gradio",), ("serve", "--port", "9")),
        ("batch", ("ray", "ray.data"), ("batch", "{here}", "{here}/out", *DENOISE)),
        ("batch", ("pyarrow",), ("batch", "{here}", "{here}/out", *DENOISE)),
        (
            "batch",
            ("ray", "ray.data"),
            ("calibrate", "--workers", "1", "--data", "{here}", "--out", "{here}/card.json",
             *DENOISE, "--samples", "1", "--steps", "1", "--crop", "32", "--delta", "0.9",
             "--alpha", "0.9"),
        ),
    ],
)  # fmt: skip
def test_an_extra_that_is_missing(
    extra: str, missing: tuple[str, ...], words: tuple[str, ...], tmp_path: Path
) -> None:
    for i, picture in enumerate(bundled_pictures()):
        write_picture(tmp_path / f"cell-{i}.png", picture.pixels[:, 96:128, 96:128], like=picture)
    answer = called(missing, *(word.format(here=tmp_path) for word in words))
    assert answer.returncode == 2, answer.stderr
    (line,) = (line for line in answer.stderr.splitlines() if line.startswith("error: "))
    assert line.endswith(f"pip install 'certes[{extra}]'")
    assert missing[0] in line
    assert "Traceback" not in answer.stderr


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom certes.apps.cli import main\nsys.argv = ['certes', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {LIGHT!r} if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.splitlines()[-1] == "[]"
    assert "restore" in answer.stdout
