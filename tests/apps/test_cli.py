"""The program as a whole: help, versions, errors in one line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from certes import __version__
from certes.apps import cli, options
from certes.errors import InputError
from certes.intervals.families import FAMILIES
from certes.intervals.rules import RULES
from certes.restoration.samplers import SAMPLERS

COMMANDS = (
    "demo",
    "restore",
    "degrade",
    "train",
    "sample",
    "interpolate",
    "compress",
    "decompress",
    "likelihood",
    "calibrate",
    "evaluate",
    "score",
    "verify",
)


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_help_imports_nothing_heavy() -> None:
    result = python(
        "import sys\n"
        "sys.argv = ['certes', '--help']\n"
        "from certes.apps.cli import main\n"
        "try:\n    main()\n"
        "finally:\n"
        "    heavy = {'torch', 'torchmetrics', 'matplotlib', 'numpy', 'scipy', 'PIL'}\n"
        "    print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    assert result.stderr == "[]\n"
    assert result.returncode == 0
    assert all(command in result.stdout for command in (*COMMANDS, "models"))


def test_python_dash_m_is_the_same_program() -> None:
    command = [sys.executable, "-m", "certes", "--version"]
    assert subprocess.check_output(command, text=True) == f"certes {__version__}\n"


@pytest.mark.parametrize("command", [*COMMANDS, "models list", "models show"])
def test_every_command_explains_itself_with_an_example(certes: Callable, command: str) -> None:
    answer = certes(*command.split(), "--help")
    assert answer.code == 0
    assert f"certes {command} " in " ".join(answer.out.replace("│", " ").split())


def test_names_in_options_are_those_of_the_libraries() -> None:
    """They are written twice because the libraries' own need torch to be read."""
    assert {str(name) for name in options.SamplerName} == set(SAMPLERS)
    assert {str(name) for name in options.RuleName} == set(RULES)
    for_the_program = {name for name, family in FAMILIES.items() if not family.needs_rungs}
    assert {str(name) for name in options.FamilyName} == for_the_program


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (InputError("a: wrong\n  mend it"), 2, "error: a: wrong mend it\n"),
        (OSError(28, "No space left on device", "out/x.png"), 2, "error: out/x.png: No space left"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_errors(
    certes: Callable,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    raised: BaseException,
    code: int,
    line: str,
) -> None:
    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr("certes.apps.jobs.degrade.degrade_pictures", fail)
    answer = certes("degrade", "a.png", "--task", "denoise", "--out", tmp_path)
    assert (answer.code, answer.out) == (code, "")
    assert answer.err.startswith(line)


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only what a user can mend is told in one line; the rest keeps its traceback."""
    monkeypatch.setattr("certes.apps.jobs.degrade.degrade_pictures", lambda *_: 1 / 0)
    monkeypatch.setattr(
        sys, "argv", ["certes", "degrade", "a", "--task", "denoise", "--out", str(tmp_path)]
    )
    with pytest.raises(ZeroDivisionError):
        cli.main()
