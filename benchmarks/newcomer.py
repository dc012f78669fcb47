"""The newcomer's path: every block of README.md, copied into a shell from top to bottom, timed.

    python benchmarks/newcomer.py [REPOSITORY]

Clones HEAD of the repository (this one by default) into an empty folder, where nothing is set up,
and runs what the README says there: `sh` blocks by bash, `python` blocks by the environment that
the first block makes. Files that the README calls cells.png, pictures/ and so on are stand-ins made
of the bundled pictures, and variables that it takes as given are made by a few lines; all of that
is printed. What would take long is run as a trial of the same kind (`INSTEAD`, printed as well).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from _report import HERE, Report

# Twenty steps of a small network in place of a night, the tests of one room in place of all, four
# pictures in place of a folder.
INSTEAD = {
    "certes batch pictures/": "certes batch test/",
    "make test": "make .venv/installed-dev && .venv/bin/python -m pytest -q tests/data",
    "certes train nuclei-functions": "certes train tiny-functions",
    "certes train nuclei": "certes train tiny",
    "certes train ddpm-cifar10": "certes train tiny",
    "certes train edges-cde": "certes train tiny-conditional",
    "certes train labels-cde": "certes train labels-trial.json",
    "certes tune nuclei": "certes tune nuclei --steps 20",
}

FILES = """
import json
from pathlib import Path
from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from certes.conditional.presets import PRESETS
from certes.data.bundled import bundled_pictures
from certes.data.pictures import find_pictures, read_picture, write_picture

pictures = bundled_pictures()

def part(number, side=64):
    return pictures[number].pixels[:, 80 : 80 + side, 112 : 112 + side]

def save(path, pixels, like=pictures[0]):
    Path(path).parent.mkdir(exist_ok=True, parents=True)
    write_picture(path, pixels.clamp(0, 1), like)

def noisy(pixels, level):
    return pixels + level * torch.randn(pixels.shape, generator=torch.manual_seed(0))

def blurred(pixels):
    return torch.nn.functional.avg_pool2d(pixels[None], 3, stride=1, padding=1)[0]

# Pictures to restore, draw between, compress.
save("cells.png", noisy(part(5), 0.1))
small = noisy(torch.nn.functional.avg_pool2d(part(5), 4), 0.02)
save("small.tif", small, replace(pictures[0], dtype="float32"))
save("photo.png", noisy(blurred(part(7)).expand(3, -1, -1), 0.02))
colours = (part(7).expand(3, -1, -1).movedim(0, -1) * 255).byte().numpy()
Image.fromarray(colours).save("photo.jpg", quality=20)
for number, name in enumerate(("a.png", "b.png", "cell.png", "cells/cell.png")):
    save(name, part(number))

# Pictures to train on, and quarters of others to calibrate on: dependent in truth, a trial here.
for path in find_pictures(["tests/data/nuclei-train"]):
    for folder in ("pictures", "images"):
        save(f"{folder}/{path.name}", read_picture(path).pixels)
    for folder, side in (("cifar", 32), ("fashion_mnist", 28)):
        save(f"{folder}/{path.name}", read_picture(path).pixels[:, :side, :side])
for picture in pictures:
    for number, (top, left) in enumerate(((0, 0), (0, 128), (128, 0), (128, 128))):
        quarter = picture.pixels[:, top : top + 128, left : left + 128]
        for folder in ("others", "truths", "images2"):
            save(f"{folder}/{picture.name}-{number}.png", quarter)
for number in range(4):
    save(f"test/{number}.png", part(number, 128).flip(2))

# Pictures that number objects: here everything bright is one.
def numbered(path, pixels):
    Path(path).parent.mkdir(exist_ok=True)
    Image.fromarray((pixels[0] > 0.15).to(torch.uint8).numpy()).save(path)

for folder, labels in (("images", "labels"), ("images2", "labels2")):
    for path in find_pictures([folder]):
        numbered(f"{labels}/{path.name}", read_picture(path).pixels)
numbered("new-labels.png", part(5))

trial = PRESETS["tiny-conditional"].to_dict()
trial["network"] |= {"in_channels": 3, "out_channels": 1}
trial["task"], trial["y"]["channels"] = {"kind": "labels"}, 2
trial["estimator"] = PRESETS["labels-cde"].to_dict()["estimator"]
Path("labels-trial.json").write_text(json.dumps(trial))
"""

GIVEN = """
import torch
import certes
from certes.data.bundled import bundled_pictures

def windows(side, shift):
    return torch.stack([
        p.pixels[:, r + shift : r + shift + side, c + shift : c + shift + side]
        for p in bundled_pictures() for r in (0, 128) for c in (0, 128)
    ])

def with_noise(y):
    return y + 0.02 * torch.randn(y.shape, generator=torch.manual_seed(0))
"""
# What a python block takes as given, by what tells the block from others.
VARIABLES = {
    "runs/labels/model": """
from certes.data.pairs import label_channels, read_labels
y = label_channels(read_labels("new-labels.png"))[None] / 255
""",
    "SampledAt(": """
positions = 64 * torch.rand(800, 2, generator=torch.manual_seed(1))
y = with_noise(certes.operators.SampledAt((1, 64, 64), positions)(windows(64, 0)[:1]))
""",
    "certes.calibrate(": """
truth, new_truth = windows(64, 0), windows(64, 64)[:4]
small = certes.operators.SuperResolution((1, 64, 64), factor=4)
y, new_y = with_noise(small(truth)), with_noise(small(new_truth))
""",
}


@dataclass(frozen=True)
class Block:
    """A block of the README; `line` is that of its first line of code."""

    language: str
    code: str
    line: int

    @property
    def shortened(self) -> str:
        """With trials in place of what takes long."""
        code = self.code
        for long, trial in INSTEAD.items():
            code = re.sub(rf"{re.escape(long)}(?=\s)", trial, code)
        return code

    @property
    def given(self) -> str:
        """The lines that make its variables."""
        known = [code for mark, code in VARIABLES.items() if mark in self.code]
        return GIVEN + "".join(known[:1])


def blocks_of(readme: Path) -> list[Block]:
    """The blocks that a newcomer runs."""
    text = readme.read_text(encoding="utf-8")
    found = re.finditer(r"^```(sh|python)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(m[1], m[2], text.count("\n", 0, m.start(2)) + 1) for m in found]


def run(block: Block, folder: Path) -> tuple[int, float]:
    """Exit code and seconds of a block; what it says goes on to the terminal."""
    if block.language == "sh":
        command = ["bash", "-euo", "pipefail", "-c", block.shortened]
    else:
        command = [".venv/bin/python", "-c", f"{block.given}\n{block.shortened}"]
    # A newcomer's shell knows nothing of the environment that this runs in.
    ours = ("PYTHONPATH", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment)
    return done.returncode, time.perf_counter() - started


def main() -> None:
    repository = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent
    report = Report("newcomer")
    with tempfile.TemporaryDirectory() as empty:
        folder = Path(empty) / "certes"
        subprocess.run(["git", "clone", "--quiet", str(repository), str(folder)], check=True)
        print(f"files that stand in for a user's own:\n{FILES}\nand variables:\n{GIVEN}")
        first, *others = blocks_of(folder / "README.md")
        codes = [attempt(first, folder, report)]
        subprocess.run([".venv/bin/python", "-c", FILES], cwd=folder, check=True)
        codes += [attempt(block, folder, report) for block in others]
    failed = len(codes) - codes.count(0)
    report.claim(
        f"of {len(codes)} blocks of README.md, copied into a shell in a fresh clone",
        f"{failed} fail", "0 fail", failed == 0,
    )  # fmt: skip
    report.save()


def attempt(block: Block, folder: Path, report: Report) -> int:
    """Run a block and claim that it works."""
    print(f"\nREADME.md:{block.line} ({block.language})\n{block.shortened}", flush=True)
    code, seconds = run(block, folder)
    trial = "" if block.shortened == block.code else "; trials in place of what takes long"
    head = " ".join(block.code.split("\n", 1)[0].split())
    report.claim(
        f"README.md:{block.line} ({block.language}{trial}): {head}",
        f"exit {code}, {seconds:.0f} s", "exit 0", code == 0,
    )  # fmt: skip
    return code


if __name__ == "__main__":
    main()
