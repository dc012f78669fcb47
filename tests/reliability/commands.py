"""Every command that writes files, as a call whose results all go into one folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from certes.apps.cli import app

from ..apps.helpers import grey
from ..apps.test_train import CONFIG
from .models import make_models

Arguments = tuple[object, ...]

_FEW = ("--samples", 2, "--steps", 1, "--alpha", 0.5)
_DENOISE = ("--task", "denoise", "--noise", 0.1)
_CROP = ("--crop", 32)
_LOOSE = ("--alpha", 0.5, "--delta", 0.4)


@dataclass(frozen=True)
class Bench:
    """What the commands are given.

    Args:
        folder: where everything is.
    """

    folder: Path

    @property
    def model(self) -> Path:
        """Of pixels."""
        return self.folder / "models" / "pixels"

    @property
    def pictures(self) -> Path:
        """A folder of four."""
        return self.folder / "pictures"

    @property
    def picture(self) -> Path:
        """One of them."""
        return self.pictures / "cell-0.png"


def make_bench(folder: Path) -> Bench:
    """Make all that is needed in a new folder."""
    bench = Bench(folder)
    make_models(folder / "models")
    for i in range(4):
        grey(bench.pictures / f"cell-{i}.png", i)
    config: dict[str, Any] = {**CONFIG, "steps": 4, "checkpoint_every": 1, "sample_every": 2}
    (folder / "run.json").write_text(json.dumps(config))
    settings = (*_DENOISE, *_FEW, *_CROP, "--delta", 0.4, "--model", bench.model)
    for i in range(2):
        half = grey(folder / f"half-{i}" / f"cell-{i}.png", i).parent
        grey(half / f"cell-{i + 2}.png", i + 2)
        made = ("calibrate", *settings, "--data", half, "--partial")
        run(*made, "--out", folder / f"{i}.tally")
    run("compress", bench.picture, folder / "sent.crt", "--model", bench.model)
    return bench


def run(*arguments: object) -> str:
    """What the program says; it must succeed."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


Call = Callable[[Bench, Path, int], Arguments]

CALLS: dict[str, Call] = {
    "restore": lambda b, out, seed: (
        *("restore", b.picture, *_DENOISE, *_FEW, "--model", b.model),
        *("--seed", seed, "--out", out),
    ),
    "degrade": lambda b, out, seed: (
        *("degrade", b.picture, "--task", "inpaint", "--missing", 0.5),
        *("--seed", seed, "--out", out),
    ),
    "train": lambda b, out, seed: (
        *("train", b.folder / "run.json", "--data", b.pictures),
        *(
            "--name",
            f"net-{seed}",
            "--out",
            out,
            *(("--resume",) if (out / "model").exists() else ()),
        ),
    ),
    "tune": lambda b, out, seed: (
        *("tune", b.model, "--task", "denoise", "--steps", 2, "--data", b.pictures),
        *(
            "--name",
            f"net-{seed}",
            "--out",
            out,
            *(("--resume",) if (out / "model").exists() else ()),
        ),
    ),
    "sample": lambda b, out, seed: (
        *("sample", "--model", b.model, "-n", 2, "--steps", 2, "--progressive"),
        *("--seed", seed, "--out", out),
    ),
    "interpolate": lambda b, out, seed: (
        *("interpolate", b.picture, b.pictures / "cell-1.png", "--model", b.model),
        *("--level", 0.1, "--lambdas", 3, "--steps", 1, "--seed", seed, "--out", out),
    ),
    "likelihood": lambda b, out, seed: (
        *("likelihood", b.picture, "--model", b.model, "--levels", 2),
        *("--seed", seed, "--out", out),
    ),
    "calibrate": lambda b, out, seed: (
        *("calibrate", *_DENOISE, *_FEW, "--delta", 0.4, *_CROP, "--model", b.model),
        *("--data", b.pictures, "--seed", seed, "--out", out / "card.json"),
    ),
    "calibrate --partial": lambda b, out, seed: (
        *("calibrate", *_DENOISE, *_FEW, "--delta", 0.4, *_CROP, "--model", b.model, "--partial"),
        *("--data", b.pictures, "--seed", seed, "--out", out / "part.tally"),
    ),
    "merge": lambda b, out, seed: (
        *("merge", b.folder / "0.tally", b.folder / "1.tally", *_LOOSE),
        *("--seed", seed, "--out", out / "card.json"),
    ),
    "evaluate": lambda b, out, seed: (
        *("evaluate", *_DENOISE, *_FEW, *_CROP, "--model", b.model, "--data", b.pictures),
        *("--seed", seed, "--out", out),
    ),
    "score": lambda b, out, seed: (
        *("score", b.pictures, "--data", b.pictures, "--features", b.model),
        *("--seed", seed, "--out", out / "scores.json"),
    ),
    "compress": lambda b, out, seed: (
        *("compress", b.picture, out / "a.crt", "--model", b.model),
        *("--bits-per-pixel", 0.5 + 0.1 * (seed % 3)),
    ),
    "decompress": lambda b, out, seed: (
        *("decompress", b.folder / "sent.crt", out / "a.png", "--model", b.model),
        *("--samples", 2, "--steps", 1, "--alpha", 0.5, "--seed", seed),
    ),
    "models measure": lambda b, out, seed: (
        *("models", "measure", b.model, "--data", b.pictures),
        *("--licence", f"licence-{seed}", "--out", out),
    ),
    "models export": lambda b, out, seed: (
        *("models", "export", b.folder / "models" / "diffusers", out / f"net-{seed}"),
    ),
}
