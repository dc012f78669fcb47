"""What every benchmark prints and keeps: claims, each with its measurement, target and verdict."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from certes.data.files import write_json

HERE = Path(__file__).parent


class Report:
    """Collects the claims of one benchmark, prints them, writes ``results/NAME.json``.

    A claim that does not hold is kept as it is.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._claims: list[dict[str, object]] = []

    def claim(self, text: str, measured: object, target: object, holds: bool) -> None:
        """Add and print a claim. `measured` and `target` are numbers or words."""
        self._claims.append(
            {"claim": text, "measured": measured, "target": target, "holds": bool(holds)}
        )
        verdict = "holds" if holds else "DOES NOT HOLD"
        print(f"{verdict}: {text}: {measured} (target: {target})", flush=True)

    def save(self) -> Path:
        """Write the claims beside those of the other benchmarks."""
        path = HERE / "results" / f"{self.name}.json"
        write_json(
            path,
            {
                "machine": f"{os.cpu_count()} cores, {platform.machine()}",
                "date": datetime.now(UTC).date().isoformat(),
                "revision": _revision(),
                "claims": self._claims,
            },
        )
        print(f"written: {path.relative_to(HERE.parent)}")
        return path


def _revision() -> str:
    """Commit of the working tree, marked when the code has changed since; results do not count."""
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        changed = _git("status", "--porcelain", "--", ".", ":!benchmarks/results")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit} with changes" if changed else commit


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(HERE.parent), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
