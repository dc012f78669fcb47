"""certes batch: killed at random moments, its overhead, and what a second worker brings.

    python benchmarks/batch.py [--pictures 500] [--kills 10]

Real pictures: crops of held-out pictures of nuclei, or of the bundled ones where there are no
others. (a) An unbroken run against one in which workers and the driver are killed by SIGKILL at
random moments, the driver being started again each time. (b) What a worker spends on a picture
beside restoring it and writing its files: the time between the first row of a run and the last, on
one worker, over that of a plain loop over the same pictures in one process. (c) Two workers against
one. The alternative that a shell offers, one process for each picture, is timed on a few.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
from _report import Report
from pyarrow import parquet

from certes.data.bundled import bundled_pictures
from certes.data.pictures import find_pictures, read_picture, write_picture

NUCLEI = Path(__file__).resolve().parents[2] / "shared/data/nuclei/test/images"
TASK = ["--task", "denoise", "--noise", "0.05"]
TIMED, SHELL = 12, 3  # pictures
LONGEST = 20.0  # seconds from when workers work to the next kill


def crops(folder: Path, count: int, side: int) -> None:
    """So many different crops, as many from each picture."""
    pictures = (
        [read_picture(path) for path in find_pictures([NUCLEI])]
        if NUCLEI.is_dir()
        else bundled_pictures()
    )
    folder.mkdir()
    each = -(-count // len(pictures))
    for i in range(count):
        picture, turn = pictures[i % len(pictures)], i // len(pictures)
        height, width = picture.pixels.shape[1:]
        top = turn * (height - side) // max(each - 1, 1)
        left = (width - side) // 2
        pixels = picture.pixels[:, top : top + side, left : left + side]
        write_picture(folder / f"crop-{i:04d}.png", pixels, like=picture)


def command(source: Path, out: Path, workers: int, *more: str) -> list[str]:
    program = [sys.executable, "-m", "certes", "batch", str(source), str(out), *TASK]
    return [*program, "--workers", str(workers), *more]


def run(*words: str) -> float:
    start = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def hashes(folder: Path) -> dict[str, str]:
    """Of every result."""
    files = (path for path in folder.iterdir() if path.suffix in (".png", ".tif"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def killed_run(words: list[str], kills: int, seed: int) -> list[str]:
    """Start the command until it ends by itself; returns what was killed.

    Time runs from when there are workers: before, nothing could be lost.
    """
    chance, victims = random.Random(seed), []
    driver = quietly(words)
    while len(victims) < kills:
        wait_for_workers(driver)
        with suppress(subprocess.TimeoutExpired):
            driver.wait(chance.uniform(0.0, LONGEST))
        workers = workers_of(driver)
        if driver.poll() is not None:
            break  # sooner than was planned
        if workers and chance.random() < 0.5:
            os.kill(chance.choice(workers), signal.SIGKILL)
            victims.append("worker")
        else:
            driver.kill()
            driver.wait()
            victims.append("driver")
            driver = quietly(words)
    if driver.wait():
        raise SystemExit(f"the last run ended with {driver.returncode}")
    return victims


def quietly(words: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for_workers(driver: subprocess.Popen[bytes]) -> None:
    while driver.poll() is None and not workers_of(driver):
        time.sleep(0.1)


def workers_of(driver: subprocess.Popen[bytes]) -> list[int]:
    try:
        return [p.pid for p in psutil.Process(driver.pid).children(True) if is_worker(p)]
    except psutil.NoSuchProcess:
        return []


def is_worker(process: psutil.Process) -> bool:
    try:
        return "MapWorker" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def resilience(report: Report, folder: Path, count: int, kills: int) -> None:
    crops(folder / "in", count, 32)
    few = ("--samples", "2", "--steps", "2", "--batch-size", "4")
    whole = run(*command(folder / "in", folder / "whole", 2, *few))
    print(f"unbroken run of {count} pictures: {whole:.0f} s")
    victims = killed_run(command(folder / "in", folder / "killed", 2, *few), kills, seed=0)
    rows = parquet.read_table(folder / "killed" / "manifest.parquet").to_pylist()
    names = sorted(row["name"] for row in rows)
    once = names == sorted(path.stem for path in (folder / "in").iterdir())
    done = sum(row["status"] == "done" for row in rows)
    print(f"killed: {', '.join(victims)}")
    lost = victims.count("worker")
    report.claim(f"kills by SIGKILL, {lost} of workers", len(victims), kills, len(victims) == kills)
    report.claim(
        f"pictures in the manifest once and done, of {count}", done, count, once and done == count
    )
    ours, theirs = hashes(folder / "whole"), hashes(folder / "killed")
    unlike = {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}
    report.claim(
        f"of {len(ours)} results, those unlike the unbroken run's", len(unlike), 0, not unlike
    )
    ours[min(ours)] = "another"  # the comparison can fail
    report.claim("a changed file is seen", ours != theirs, True, ours != theirs)


def per_picture(out: Path) -> float:
    """Seconds from one result to the next, by the times of the files."""
    times = sorted(path.stat().st_mtime for path in out.glob("*.panel.png"))
    return (times[-1] - times[0]) / (len(times) - 1)


def loop(source: Path, out: Path) -> float:
    """A plain loop in one process of one thread, by `certes restore`; seconds for a picture."""
    run(sys.executable, "-m", "certes", "restore", str(source), *TASK, "--out", str(out))
    return per_picture(out)


def speed(report: Report, folder: Path) -> None:
    source = folder / "timed"
    crops(source, TIMED, 64)
    alone = ("--batch-size", "1")
    seconds: dict[str, list[float]] = {"loop": [], "one worker": [], "two workers": []}
    for turn in range(2):
        outs = {name: folder / f"{name} {turn}" for name in seconds}
        seconds["loop"].append(loop(source, outs["loop"]))
        for name, workers in (("one worker", 1), ("two workers", 2)):
            run(*command(source, outs[name], workers, *alone))
            seconds[name].append(per_picture(outs[name]))
        print({name: round(values[-1], 3) for name, values in seconds.items()}, flush=True)
    best = {name: min(values) for name, values in seconds.items()}
    over = best["one worker"] / best["loop"] - 1
    report.claim(
        f"overhead of a picture of {best['loop']:.2f} s", round(over, 3), "under .05", over < 0.05
    )
    ratio = best["one worker"] / best["two workers"]
    report.claim(
        "pictures a second, two workers over one", round(ratio, 2), "at least 1.6", ratio >= 1.6
    )
    ours, theirs, plain = (
        hashes(folder / f"{name} 0") for name in ("one worker", "two workers", "loop")
    )
    same = ours == theirs == plain
    report.claim("results of a loop, one worker and two workers are equal", same, True, same)
    shell = [
        run(
            sys.executable,
            "-m",
            "certes",
            "restore",
            str(path),
            *TASK,
            "--out",
            str(folder / "shell"),
        )
        for path in sorted(source.iterdir())[:SHELL]
    ]
    times = min(shell) / best["one worker"]
    report.claim(
        "one process for each picture takes so many times as long",
        round(times, 2),
        "more than 1",
        times > 1,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--kills", type=int, default=10)
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    report = Report("batch")
    with tempfile.TemporaryDirectory(prefix="certes-batch-") as name:
        resilience(report, Path(name), asked.pictures, asked.kills)
        speed(report, Path(name))
    report.save()


if __name__ == "__main__":
    main()
