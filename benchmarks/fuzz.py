"""Spoiled files through `certes restore` and `certes decompress`: refused in one line, or read.

    python benchmarks/fuzz.py [--files 10000] [--commands 200] [--seed 0]

Pictures of all formats, masks, kernels, truths, cards, measurements, compressed pictures and the
files of models of every kind, each spoiled by bit flips, cuts, splices, other numbers in fields of
length and size, or by somebody who knows the format and keeps its checksums right
(`tests/reliability/mutations.py`). All go through the program in one process, with models that cost
nothing; some of them once more as real command lines.

So that a run takes an hour and not a day, pictures beyond 512 x 512 are refused here as those
beyond 8192 x 8192 are otherwise, and one in twenty panels is drawn. Memory is what the process
holds after the allocator gave back what it can (`malloc_trim`); the first thousand files fill
caches and do not count.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _report import HERE, Report

sys.path.insert(0, str(HERE.parent))

from certes.apps import plans
from certes.apps.cli import _say_warning
from certes.apps.jobs import codec
from certes.data import raster, stills
from certes.generation.codec import container
from tests.reliability.corpus import Target, make_targets
from tests.reliability.mutations import mutated
from tests.reliability.probe import (
    Outcome,
    called,
    forget_peak,
    left_in,
    memory,
    peak,
    placed,
)
from tests.reliability.readers import believe

WARM_UP = 1000
CHECKED = 500  # files between two looks at the memory
MIB = 2**20


@dataclass(frozen=True)
class Case:
    """A spoiled file. It depends on the seed and its number alone."""

    target: Target
    name: str
    content: bytes

    @classmethod
    def made(cls, targets: Sequence[Target], seed: int, number: int) -> Case:
        rng = random.Random(f"{seed}/{number}")
        target = rng.choice(targets)
        name = rng.choice(sorted(target.seeds))
        return cls(target, name, mutated(name, target.seeds[name], rng))


def held() -> int:
    """What this process holds and cannot give back, bytes."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return memory()


@contextmanager
def cheaper() -> Generator[None]:
    """Fewer panels, smaller pictures."""
    drawn, count = plans.restoration_panel, 0

    def seldom(path: Path, *arguments: Any, **more: Any) -> None:
        nonlocal count
        count += 1
        if count % 20 == 1:
            drawn(path, *arguments, **more)
        else:
            path.write_bytes(b"")

    kept = raster.MAX_PIXELS
    raster.MAX_PIXELS = container.MAX_PIXELS = 2**18
    plans.restoration_panel = codec.restoration_panel = seldom
    try:
        yield
    finally:
        raster.MAX_PIXELS = container.MAX_PIXELS = kept
        plans.restoration_panel = codec.restoration_panel = drawn


class Run:
    """Spoiled files in this process, and what became of them."""

    def __init__(self, targets: Sequence[Target], seed: int, work: Path) -> None:
        self.targets, self.seed, self.work = targets, seed, work
        self.codes: Counter[tuple[str, int | None]] = Counter()
        self.defects: list[str] = []
        self.held: list[int] = []
        self.slowest = 0.0
        self.largest = 0

    def files(self, count: int) -> None:
        for number in range(count):
            if number % CHECKED == 0:
                self.held.append(held())
                print(
                    f"{number} files, {self.held[-1] / MIB:.0f} MiB, {len(self.defects)} defects",
                    file=sys.stderr,
                    flush=True,
                )
            self.one(Case.made(self.targets, self.seed, number))
        self.held.append(held())

    def one(self, case: Case) -> None:
        path = placed(case.target, case.name, case.content, self.work)
        forget_peak()
        before, started = memory(), time.process_time()
        outcome = called(case.target, path, self.work)
        self.slowest = max(self.slowest, time.process_time() - started)
        self.largest = max(self.largest, peak() - before)
        self.codes[case.target.name, outcome.code] += 1
        if outcome.defect is not None:
            self.defects.append(f"{case.target.name}, {case.name}: {outcome.defect}")
            print(self.defects[-1], file=sys.stderr, flush=True)

    def count(self, code: int) -> int:
        return sum(n for (_, answered), n in self.codes.items() if answered == code)


def command_line(case: Case, work: Path) -> Outcome:
    """The same as a user would call it."""
    path, out = placed(case.target, case.name, case.content, work), work / "out-of-command"
    subprocess.run(["rm", "-rf", str(out)], check=True)
    arguments = [str(argument) for argument in case.target.call(path, out)]
    done = subprocess.run(
        [sys.executable, "-m", "certes", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    return Outcome(done.returncode, done.stderr, left_in(out))


def control(targets: Sequence[Target], seed: int, work: Path) -> int:
    """How often a program is caught whose reader believes what PNG files say of their lengths."""
    pictures = [target for target in targets if target.name == "picture"]
    kept, run = stills.read, Run(pictures, seed, work)

    def trusting(path: Path) -> raster.Raster:
        believe(path)
        return kept(path)

    stills.read = trusting
    try:
        run.files(200)
    finally:
        stills.read = kept
    return len(run.defects)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--commands", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    warnings.showwarning = _say_warning
    report = Report("fuzz")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        targets = make_targets(work)
        run = Run(targets, asked.seed, work)
        with cheaper():
            run.files(asked.files)
            caught = control(targets, asked.seed, work)
        lines = [
            command_line(Case.made(targets, asked.seed, number), work)
            for number in range(asked.commands)
        ]
    for target in targets:
        counts = {code: run.codes[target.name, code] for code in (0, 2, None)}
        print(f"{target.name}: {counts[0]} read, {counts[2]} refused, {counts[None]} neither")
    report.claim(
        f"{asked.files} spoiled files in {len(targets)} places where the program reads one, in one "
        f"process ({run.count(0)} read to the end, {run.count(2)} refused): exit codes other than "
        "0 and 2, tracebacks, errors of no or several lines, files left behind, intervals that are "
        "none",
        len(run.defects), 0, not run.defects,
    )  # fmt: skip
    start, end = run.held[WARM_UP // CHECKED], run.held[-1]
    report.claim(
        f"memory held after {WARM_UP} of them and after all: {start / MIB:.0f} and "
        f"{end / MIB:.0f} MiB; growth, %",
        round(100 * (end / start - 1), 1), "at most 5", end <= 1.05 * start,
    )  # fmt: skip
    report.claim(
        "the most that any of them took besides, MiB",
        round(run.largest / MIB), "at most 1024", run.largest <= 1024 * MIB,
    )  # fmt: skip
    report.claim(
        "the longest that any of them took, seconds of computing",
        round(run.slowest, 1), "at most 60", run.slowest <= 60,
    )  # fmt: skip
    wrong = [outcome.defect for outcome in lines if outcome.defect is not None]
    for defect in wrong:
        print(defect)
    codes = Counter(outcome.code for outcome in lines)
    report.claim(
        f"{asked.commands} of them as command lines of their own ({codes[0]} times exit code 0, "
        f"{codes[2]} times 2): the same defects",
        len(wrong), 0, not wrong,
    )  # fmt: skip
    report.claim(
        "negative control: of 200 pictures, those of which the same check finds a defect whose "
        "reader believes the lengths in PNG files",
        caught, "at least 1", caught > 0,
    )  # fmt: skip
    report.save()


if __name__ == "__main__":
    main()
