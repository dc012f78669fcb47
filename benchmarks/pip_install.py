"""What pip brings a user: the wheel in a new environment, and how soon it answers.

    python benchmarks/pip_install.py

Builds wheel and source archive as `make release` does, makes an empty environment, installs torch
at the release's pin and then the wheel with nothing else, restores a picture there, and times
`import certes` and `certes --help` beside an empty Python and `import torch`, which is what the
program would cost if it imported what it needs when it starts. Times are the shortest of five runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _report import HERE, Report

from certes.data.bundled import bundled_pictures
from certes.data.pictures import write_picture

ROOT, MIB, RUNS = HERE.parent, 2**20, 5
PINS = ROOT / "constraints.txt"
EXTRAS = ("torchvision", "gradio", "ray", "pyarrow", "diffusers", "pytest")


def told(*command: object) -> str:
    """What a command prints; it must succeed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL"))}
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"error: {' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout


def shortest(*command: object) -> float:
    """Seconds of the fastest of some runs."""

    def once() -> float:
        start = time.perf_counter()
        told(*command)
        return time.perf_counter() - start

    return min(once() for _ in range(RUNS))


def installed(work: Path) -> Path:
    """The programs of an environment that holds the wheel alone."""
    told(sys.executable, "-m", "venv", work / "env")
    pip = (work / "env/bin/python", "-m", "pip", "install", "--quiet", "-c", PINS)
    (pin,) = (line for line in PINS.read_text().split() if line.startswith("torch=="))
    told(*pip, pin)
    told(*pip, *(work / "dist").glob("*.whl"))
    return work / "env/bin"


def main() -> None:
    report = Report("pip_install")
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        told(sys.executable, "-m", "build", "--outdir", work / "dist", ROOT)
        sizes = {path.suffix: path.stat().st_size / MIB for path in (work / "dist").iterdir()}
        report.claim(
            "MiB of the wheel with its models, and of the source archive",
            f"{sizes['.whl']:.0f} and {sizes['.gz']:.0f}", "at most 100", max(sizes.values()) < 100,
        )  # fmt: skip
        programs = installed(work)
        python, certes = programs / "python", programs / "certes"
        there = told(python, "-m", "pip", "list", "--format=freeze").lower()
        found = [name for name in EXTRAS if f"\n{name}==" in f"\n{there}"]
        report.claim(f"of {', '.join(EXTRAS)}, packages that it brought", len(found), 0, not found)
        write_picture(
            work / "a.png", bundled_pictures()[0].pixels[:, :64, :64], bundled_pictures()[0]
        )
        told(certes, "restore", work / "a.png", "--task", "denoise", "--out", work / "out")
        written = (work / "out/a.intervals.tif").is_file()
        report.claim(
            "`certes restore a.png --task denoise` there writes intervals", written, True, written
        )
        empty = shortest(python, "-c", "pass")
        torch = shortest(python, "-c", "import torch")
        own = shortest(python, "-c", "import certes")
        help_ = shortest(certes, "--help")
    report.claim(
        f"seconds of `import certes` ({empty:.2f} of an empty Python; `import torch`: {torch:.2f})",
        round(own, 2), "below 2", own < 2,
    )  # fmt: skip
    report.claim(
        f"seconds of `certes --help` ({help_ / torch:.2f} times `import torch`)",
        round(help_, 2), "below 1", help_ < 1,
    )  # fmt: skip
    report.save()


if __name__ == "__main__":
    main()
