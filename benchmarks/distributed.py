"""Training by two processes: the steps of one, and how many pictures a second.

    python benchmarks/distributed.py

The preset `nuclei` in float32, 16 patches a step, on two CPU cores; two processes are started by
torchrun and talk by gloo. The loss curves of one process and of two; of one that goes on from the
checkpoint of two; and, as controls, of two that weigh pictures relative to their own share, and of
two that read the same share. Pictures a second: two processes of a thread each, beside one process
of a thread, and of two threads, which is what a user of one machine would otherwise run. All are
started in turns, and the shortest step counts, since the cores are shared.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from _report import HERE, Report

from certes.data.patches import EVERY, PatchDataset, load_folder
from certes.training import weights
from certes.training.loop import CHECKPOINT, Run
from certes.training.presets import PRESETS
from certes.training.processes import is_main, leave
from certes.training.unconditional import Unconditional

PICTURES = HERE.parent.parent / "shared/data/nuclei/train/images"
# One step fewer than the run has: after its last it draws pictures to look at.
STEPS, HALF, TIMED, TURNS = 23, 12, 8, 3
CONFIG = replace(
    PRESETS["nuclei"],
    precision="no",
    batch=16,
    steps=STEPS + 1,
    warmup=5,
    checkpoint_every=HALF,
    sample_every=10**9,
)
TOLERANCE = 1e-4
LAUNCHER = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


class SameShare(PatchDataset):
    """A control: what the first process reads, the other reads, too."""

    def batch(self, step: int, batch_size: int, seed: int, share: slice = EVERY) -> torch.Tensor:
        return super().batch(step, batch_size, seed, slice(0, share.stop, share.step))


def work(out: Path, upto: int, resume: bool, variant: str) -> None:
    """One process: run, and write losses and times of steps."""
    if variant == "weights":
        weights.mean_of_all = lambda values: values
    kind = SameShare if variant == "share" else PatchDataset
    data = kind(load_folder(PICTURES)[:64], CONFIG.patch)
    run = Run(Unconditional(CONFIG), data, out, resume)
    losses, times, start = list[float](), list[float](), time.perf_counter()
    for loss in islice(run.steps(), upto):
        losses.append(float(loss))
        times.append(time.perf_counter() - start)
        start = time.perf_counter()
    if is_main():
        (out / "told.json").write_text(json.dumps({"losses": losses, "times": times}))
    leave()


def told(
    out: Path, processes: int, threads: int = 1, upto: int = STEPS, variant: str = "as it is"
) -> dict[str, Any]:
    """Start processes, and read what they wrote."""
    out.mkdir(parents=True, exist_ok=True)
    start = LAUNCHER if processes == 2 else (sys.executable,)
    resume = (out / CHECKPOINT).is_file()
    words = (__file__, str(out), str(upto), "resume" if resume else "start", variant)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "ACCELERATE_USE_CPU": "true"}
    subprocess.run([*start, *words], env=environment, check=True)
    return json.loads((out / "told.json").read_text())


def apart(one: list[float], other: list[float]) -> float:
    """The largest relative difference of two curves."""
    a, b = torch.tensor(one).double(), torch.tensor(other).double()
    return float(((a - b) / a).abs().max())


def curves(report: Report, folder: Path) -> None:
    """Whether two are one."""
    one = told(folder / "one", 1)["losses"]
    two = told(folder / "two", 2)["losses"]
    difference = apart(one, two)
    report.claim(
        f"loss curves of one process and of two, {STEPS} steps: largest relative difference",
        f"{difference:.1e}",
        f"below {TOLERANCE:.0e}",
        difference < TOLERANCE,
    )
    told(folder / "left", 2, upto=HALF)
    rest = told(folder / "left", 1, upto=STEPS - HALF)["losses"]
    difference = apart(one[HALF:], rest)
    report.claim(
        "one process goes on from the checkpoint of two: largest relative difference",
        f"{difference:.1e}",
        f"below {TOLERANCE:.0e}",
        difference < TOLERANCE,
    )
    for variant, words in (
        ("weights", "weights relative to each share"),
        ("share", "both read the same share"),
    ):
        difference = apart(
            one[:HALF], told(folder / variant, 2, upto=HALF, variant=variant)["losses"]
        )
        report.claim(
            f"control, {words}: largest relative difference",
            f"{difference:.1e}",
            f"above {10 * TOLERANCE:.0e}",
            difference > 10 * TOLERANCE,
        )


def speed(report: Report, folder: Path) -> None:
    """Pictures a second."""
    ways = {"two processes": (2, 1), "one process": (1, 1), "one process, two threads": (1, 2)}
    shortest = dict.fromkeys(ways, float("inf"))
    for turn in range(TURNS):
        for way, (processes, threads) in ways.items():
            times = told(folder / f"{way} {turn}", processes, threads, upto=TIMED)["times"]
            shortest[way] = min(shortest[way], *times[2:])
    rates = {way: CONFIG.batch / seconds for way, seconds in shortest.items()}
    both = rates["two processes"]
    for way, target in (("one process", 1.5), ("one process, two threads", 0.9)):
        report.claim(
            f"pictures a second, two processes ({both:.1f}) over {way} ({rates[way]:.1f})",
            round(both / rates[way], 2),
            f"at least {target}",
            both / rates[way] >= target,
        )


def main() -> None:
    report = Report("distributed")
    with TemporaryDirectory() as folder:
        curves(report, Path(folder))
        speed(report, Path(folder))
    report.save()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        work(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "resume", sys.argv[4])
    else:
        main()
