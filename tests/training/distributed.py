"""Programs started as several processes, by torch's own launcher."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}


@dataclass(frozen=True)
class Ended:
    """What became of a program."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines that say what was wrong, of all processes."""
        return [line for line in self.err.splitlines() if line.startswith("error: ")]


def launched(*arguments: str | Path, **options: str) -> subprocess.Popen[str]:
    """Two processes of a program (a script, or ``-m module``) and its arguments, started."""
    return subprocess.Popen(
        [sys.executable, *LAUNCHER, *map(str, arguments)],
        env=os.environ | ENVIRONMENT | options,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def together(*arguments: str | Path, **options: str) -> Ended:
    """Two processes of a program, run to the end."""
    with launched(*arguments, **options) as program:
        out, err = program.communicate(timeout=180)
    return Ended(program.returncode, out, err)
