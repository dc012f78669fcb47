"""Command lines killed at random moments: every file is the old one or the new one, whole.

    python benchmarks/durability.py [--kills 6] [--seed 0]

Every command that writes files runs on tiny models, over the results of an earlier run. Half of the
times it is killed (SIGKILL) at a random moment of its run, half of the times a few milliseconds
after it was seen to write; then once it is told to end (SIGTERM), and once it is let run to its
end, which must clear away what the killed ones left. A file counts as whole if a reader gets to its
end. On a disk without room (a file system of 192 KiB in memory, where the machine lets us make one)
every command must say so in one line and leave what was there.

The negative control is a writer that writes in place.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from _report import HERE, Report

sys.path.insert(0, str(HERE.parent))

from tests.reliability.commands import CALLS, Bench, make_bench
from tests.reliability.killing import files_in, halves, hidden_in

IN_PLACE = """
import json, sys, time
from pathlib import Path
out = Path(sys.argv[1])
out.mkdir(exist_ok=True)
for number in range(40):
    with (out / f"{number}.json").open("w") as file:
        for part in json.JSONEncoder().iterencode(list(range(2000))):
            file.write(part)
            file.flush()
"""


def started(command: Sequence[object]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
    )


def finished(command: Sequence[object]) -> float:
    """Seconds that a run takes, which must succeed."""
    start = time.perf_counter()
    process = started(command)
    _, said = process.communicate()
    if process.returncode:
        raise SystemExit(f"{command} failed: {said}")
    return time.perf_counter() - start


def ended(command: Sequence[object], out: Path, moment: float, number: int) -> bool:
    """End a run after so many seconds, or that long after it writes where they are less than 0.

    Returns: whether it had not come to its own end before.
    """
    process = started(command)
    if moment < 0:
        while process.poll() is None and not hidden_in(out):
            time.sleep(0.0005)
    time.sleep(abs(moment))
    process.send_signal(number)
    process.communicate()
    return process.returncode != 0


class Trial:
    """A command, killed again and again."""

    def __init__(self, name: str, bench: Bench, out: Path) -> None:
        self.name, self.bench, self.out = name, bench, out
        self.broken: list[str] = []
        self.killed = self.writing = 0

    def command(self, seed: int) -> list[object]:
        return ["-m", "certes", *CALLS[self.name](self.bench, self.out, seed)]

    def run(self, kills: int, moments: random.Random) -> None:
        finished(self.command(0))
        before = files_in(self.out)
        seconds = finished(self.command(1))
        before |= files_in(self.out)
        for number in range(kills):
            late = number % 2 == 1
            moment = -0.03 * moments.random() if late else seconds * moments.random()
            self.killed += ended(self.command(10 + number), self.out, moment, signal.SIGKILL)
            self.writing += bool(hidden_in(self.out))
            self.broken += halves(before, files_in(self.out))
        ended(self.command(100), self.out, -0.01 * moments.random(), signal.SIGTERM)
        self.broken += halves(before, files_in(self.out))
        finished(self.command(101))
        self.broken += halves(before, files_in(self.out))
        self.broken += [f"{name}, not cleared away" for name in hidden_in(self.out)]


def in_place(out: Path, kills: int, moments: random.Random) -> int:
    """How often a writer in place leaves a file that is neither old nor new."""
    found = 0
    seconds = finished(["-c", IN_PLACE, out])
    for _ in range(kills):
        ended(["-c", IN_PLACE, out], out, seconds * moments.random(), signal.SIGKILL)
        found += bool(halves({}, files_in(out)))
    return found


def cleans_up(trial: Trial) -> bool:
    """Whether a run that is told to end while it writes takes what is unfinished with it."""
    ended(trial.command(102), trial.out, -0.001, signal.SIGTERM)
    return not hidden_in(trial.out)


def no_room(bench: Bench, folder: Path, name: str) -> str | None:
    """What is wrong with a command on a full disk."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=192k", "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    try:
        out = folder / "out"
        out.mkdir()
        (out / "old").write_bytes(os.urandom(150_000))
        before = files_in(out)
        process = started(["-m", "certes", *CALLS[name](bench, out, 1)])
        _, said = process.communicate()
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        if process.returncode == 0:
            return None  # what it writes is small
        if process.returncode != 2 or len(errors) != 1 or "Traceback" in said:
            return f"{name}: exit code {process.returncode}: {said}"
        if files_in(out)["old"] != before["old"] or hidden_in(out):
            return f"{name}: left {sorted(files_in(out))}, {hidden_in(out)}"
        return None
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def may_mount(folder: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    subprocess.run(["umount", str(folder)], check=True)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    moments = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        bench = make_bench(Path(folder) / "bench")
        trials = [Trial(name, bench, Path(folder) / name.replace(" ", "-")) for name in CALLS]
        untidy: list[str] = []
        for trial in trials:
            trial.run(asked.kills, moments)
            if not cleans_up(trial):
                untidy.append(trial.name)
            print(
                f"{trial.name}: {trial.killed} killed, {trial.writing} of them writing; "
                f"{trial.broken or 'whole'}",
                file=sys.stderr,
                flush=True,
            )
        found = in_place(Path(folder) / "in-place", asked.kills, moments)
        small = Path(folder) / "small"
        small.mkdir()
        full = [no_room(bench, small, name) for name in CALLS] if may_mount(small) else None
    report = Report("durability")
    killed, writing = sum(t.killed for t in trials), sum(t.writing for t in trials)
    broken = [f"{t.name}: {name}" for t in trials for name in t.broken]
    print(*broken, sep="\n")
    report.claim(
        f"{len(trials)} commands killed {killed} times ({writing} of them while writing): files "
        "neither as they were nor whole, and hidden ones that the next run did not clear away",
        len(broken), 0, not broken,
    )  # fmt: skip
    report.claim(
        "commands that leave hidden files behind when they are told to end (SIGTERM)",
        len(untidy), 0, not untidy,
    )  # fmt: skip
    if full is not None:
        wrong = [text for text in full if text is not None]
        print(*wrong, sep="\n")
        report.claim(
            f"{len(full)} commands on a disk that is all but full: without one line that says so, "
            "or with anything lost or left behind",
            len(wrong), 0, not wrong,
        )  # fmt: skip
    report.claim(
        f"negative control: a writer in place, killed {asked.kills} times: times that the same "
        "check finds a broken file",
        found, "at least 1", found > 0,
    )  # fmt: skip
    report.save()


if __name__ == "__main__":
    main()
