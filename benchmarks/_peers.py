"""The environment of the benchmarks against deepinv and azula, which ask for a torch of their own.

deepinv needs torchvision, and that one exact build of torch, so that neither may enter the
environment in which certes is developed. Scripts that compare with them call :func:`enter` first.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".venv-peers"
NEEDED = ("certes", "deepinv", "azula", "skimage")


def enter() -> None:
    """Go on in the environment of ``requirements.txt``: make it if need be, start the script again.

    Returns at once where the script runs in it already. Making it takes minutes, once.

    Raises: SystemExit if a package is still missing then; delete the folder to make it afresh.
    """
    python = FOLDER / ("Scripts" if os.name == "nt" else "bin") / "python"
    if Path(sys.prefix).resolve() != FOLDER:
        if not python.exists():
            _make(python)
        sys.exit(subprocess.run([python, *sys.argv], check=False).returncode)
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise SystemExit(f"{FOLDER.name} lacks {', '.join(missing)}: delete it and run this again")


def _make(python: Path) -> None:
    print(f"Making {FOLDER.name} (a few minutes, once)", flush=True)
    venv.create(FOLDER, with_pip=True)
    requirements = ROOT / "benchmarks" / "requirements.txt"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "-r", requirements, "-e", ROOT], check=True)
