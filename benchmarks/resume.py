"""A training run killed with SIGKILL at random moments against one that was never broken.

    python benchmarks/resume.py [--kills 10]

The preset `tiny` on the pictures of the tests, with dropout, importance-sampled times and level
weights, so that every kind of state is there, and a checkpoint at every step; every other kill
waits for a moment at which one is being written. Equal means: every tensor of the last checkpoint,
bit for bit. As a negative control the same run, resumed after one kill from a checkpoint without
its optimiser state, must end elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from _report import HERE, Report
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from certes.data.files import PREFIX
from certes.training.loop import CHECKPOINT
from certes.training.presets import PRESETS

PICTURES = HERE.parent / "tests" / "data" / "nuclei-train"
STEPS = 300
WORKER = """
import sys
from pathlib import Path
from certes.data.patches import PatchDataset, load_folder
from certes.training.loop import Run
from certes.training.unconditional import Unconditional
from certes.training.presets import load_config
config = load_config(sys.argv[1])
data = PatchDataset(load_folder(sys.argv[2]), config.patch, config.busy)
for loss in Run(Unconditional(config), data, Path(sys.argv[3]), resume=True).steps():
    print("step", flush=True)
"""


def start(settings: Path, out: Path) -> subprocess.Popen[str]:
    arguments = [WORKER, str(settings), str(PICTURES), str(out)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true"}
    return subprocess.Popen(
        [sys.executable, "-c", *arguments], stdout=subprocess.PIPE, text=True, env=environment
    )


def finish(settings: Path, out: Path) -> None:
    worker = start(settings, out)
    worker.communicate()
    if worker.returncode:
        raise SystemExit(f"the run in {out} failed")


def half_written(out: Path) -> bool:
    return any(out.glob(f"{PREFIX}*"))


def kill(settings: Path, out: Path, seconds: float, writing: bool) -> bool:
    """Kill a run so long after its first step, or the next time that it is `writing` after that;
    whether a half-written file was left behind.
    """
    worker = start(settings, out)
    assert worker.stdout is not None
    if not worker.stdout.readline():
        raise SystemExit("the run ended before it was killed; make it longer")
    time.sleep(seconds)
    while writing and not half_written(out):
        pass
    worker.kill()
    worker.communicate()
    return half_written(out)


def step_of(out: Path) -> int:
    with safe_open(out / CHECKPOINT, "pt") as file:
        return int(file.metadata()["step"])


def same(a: Path, b: Path) -> bool:
    ours, theirs = load_file(a / CHECKPOINT), load_file(b / CHECKPOINT)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def forget_optimiser(out: Path) -> None:
    """The negative control's damage."""
    path = out / CHECKPOINT
    with safe_open(path, "pt") as file:
        header = file.metadata()
    state = load_file(path)
    for name in state:
        if name.endswith("exp_avg"):
            state[name] = torch.zeros_like(state[name])
    save_file(state, path, metadata=header)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=10)
    kills: int = parser.parse_args().kills
    network = PRESETS["tiny"].network | {"dropout": 0.1}
    config = PRESETS["tiny"].to_dict() | {
        "network": network, "times": "importance", "weights": "level", "batch": 16,
        "steps": STEPS, "checkpoint_every": 1, "sample_every": STEPS,
    }  # fmt: skip
    moments, halves = random.Random(0), 0
    with tempfile.TemporaryDirectory() as folder:
        settings, whole, broken = (Path(folder) / name for name in ("run.json", "whole", "broken"))
        settings.write_text(json.dumps(config))
        started = time.perf_counter()
        finish(settings, whole)
        seconds = time.perf_counter() - started
        for number in range(kills):
            # Shares of a whole run's time, start included, so that no kill comes too late.
            moment, writing = moments.random() * seconds / kills, number % 2 == 1
            halves += kill(settings, broken, moment, writing)
            print(f"kill {number + 1}: at step {step_of(broken)} of {STEPS}", flush=True)
            if number == 0:
                shutil.copytree(broken, control := Path(folder) / "control")
        finish(settings, broken)
        forget_optimiser(control)
        finish(settings, control)
        equal, blind = same(broken, whole), same(control, whole)
    report = Report("resume")
    report.claim(
        f"tensors of the checkpoint after {kills} times SIGKILL ({halves} of them while a "
        "checkpoint was being written), against the unbroken run",
        "equal bit for bit" if equal else "different", "equal bit for bit", equal,
    )  # fmt: skip
    report.claim(
        "negative control: resumed without the optimiser's first moments",
        "equal" if blind else "different", "different", not blind,
    )  # fmt: skip
    report.save()


if __name__ == "__main__":
    main()
