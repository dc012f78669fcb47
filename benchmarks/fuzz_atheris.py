"""Spoiled files that coverage chose: atheris (libFuzzer) on the readers and the codec.

    pip install atheris
    python benchmarks/fuzz_atheris.py [--runs 200000] [--seed 0]

Each reader runs in a process of its own and starts from the sound files of
`tests/reliability/corpus.py`. A new file is one that was kept, changed by libFuzzer or by somebody
who knows the format (`tests/reliability/mutations.py`); it is kept if it reaches code that none
reached before, in certes, Pillow or tifffile. Anything but an error of one line ends the run,
and so does a file that takes 20 s or more than 1 GiB. So that a run takes minutes and no day,
pictures beyond 512 x 512 are refused here as those beyond 8192 x 8192 are otherwise.

`benchmarks/fuzz.py` sends files through the whole program; this one looks deeper at less.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from _report import HERE, Report

sys.path.insert(0, str(HERE.parent))

# By the share of the runs that each gets: to decode a stream takes a hundred times as long.
SUBJECTS = {"picture": 1.0, "measurement": 1.0, "card": 1.0, "stream": 0.02}
CONTROL = "trusting"
SECONDS = 20  # for one file


@dataclass(frozen=True)
class Ended:
    """How a run of one reader ended."""

    defects: str
    files: int
    reached: int
    at_first: int


def explore(subject: str, runs: int, seed: int, place: Path) -> None:
    """Run one reader until it does what it must not, or `runs` files are through."""
    import atheris

    with atheris.instrument_imports(include=["certes", "PIL", "tifffile"]):
        from certes.data import raster
        from certes.generation.codec import container
        from tests.reliability import corpus, models, readers

    from tests.reliability.mutations import mutated

    raster.MAX_PIXELS = container.MAX_PIXELS = 2**18
    seeds, read = corpus.pictures(place), readers.READERS.get(subject, readers.trusting)
    if subject in ("card", "stream"):
        folder = models.make_models(place / "models")["pixels"]
        seeds = {"card.json": (folder / "cards" / "denoise.json").read_bytes()}
    if subject == "stream":
        from certes.networks.model import load

        seeds, read = corpus.streams(folder), readers.stream_reader(load(folder, "cpu"))
    if subject == "measurement":
        seeds = corpus.measurements(place)
    names, kept = sorted(seeds), place / "kept"
    kept.mkdir()
    for number, name in enumerate(names):  # the first byte tells what the file is called
        (kept / name).write_bytes(bytes([number]) + seeds[name])

    def called(data: bytes) -> str:
        return names[data[0] % len(names)]

    def one(data: bytes) -> None:
        if data:
            path = place / Path(called(data)).name
            path.write_bytes(data[1:])
            readers.reads(read, path)

    def other(data: bytes, longest: int, number: int) -> bytes:
        rng = random.Random(number)
        if not data or rng.random() < 0.5:
            return atheris.Mutate(data, longest)
        try:
            return (data[:1] + mutated(called(data), data[1:], rng))[:longest]
        except (OverflowError, ValueError, struct.error):  # beyond what knows the format
            return atheris.Mutate(data, longest)

    how = (f"-runs={runs}", f"-seed={seed + 1}", f"-timeout={SECONDS}", "-rss_limit_mb=1024")
    where = (f"-artifact_prefix={place}/", "-len_control=0", "-max_len=65536", str(kept))
    atheris.Setup([sys.argv[0], *how, *where], one, custom_mutator=other)
    atheris.Fuzz()


def ended(subject: str, runs: int, seed: int) -> Ended:
    """Explore in a process of its own."""
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, __file__, "--subject", subject, "--place", place]
        done = subprocess.run(
            [*command, "--runs", str(runs), "--seed", str(seed)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
    states = [tuple(map(int, found)) for found in re.findall(r"#(\d+)\s.*cov: (\d+)", done.stdout)]
    if not states:
        sys.exit(f"error: {subject}: did not start\n{done.stdout[-2000:]}")
    defects = "" if done.returncode == 0 else traceback_in(done.stdout)
    return Ended(defects, states[-1][0], states[-1][1], states[0][1])


def traceback_in(said: str) -> str:
    """What was raised, without what libFuzzer says of the file."""
    raised = said.partition("Uncaught Python exception")[2] or said[-3000:]
    return raised.partition("\n==")[0][:3000]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--subject", choices=(*SUBJECTS, CONTROL), help=argparse.SUPPRESS)
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.subject:
        explore(asked.subject, asked.runs, asked.seed, asked.place)
    report = Report("fuzz_atheris")
    for subject, share in SUBJECTS.items():
        runs = int(share * asked.runs)
        found = ended(subject, runs, asked.seed)
        print(found.defects)
        report.claim(
            f"{subject}: of {found.files} files that coverage chose (they reach {found.reached} "
            f"places in the code, the sound ones {found.at_first}), those that end in anything but "
            "success or an error of one line",
            int(bool(found.defects)), 0, not found.defects and found.files >= runs,
        )  # fmt: skip
    found = ended(CONTROL, asked.runs, asked.seed)
    report.claim(
        "negative control: a reader that believes the lengths in PNG files is found out after "
        f"{found.files} files",
        int(bool(found.defects)), 1, "unpack requires a buffer" in found.defects,
    )  # fmt: skip
    report.save()


if __name__ == "__main__":
    main()
