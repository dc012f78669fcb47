"""certes batch as users call it: on a Ray of its own, killed and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from pyarrow import parquet

from certes.apps.batch.manifest import NAME, WORK
from certes.data.bundled import bundled_pictures
from certes.data.pictures import write_picture

from ..helpers import Certes, names

pytest.importorskip("ray.data", reason="needs the extra [batch]")

COUNT = 16
OPTIONS = ("--task", "denoise", "--noise", "0.1", "--samples", "2", "--steps", "2", "--batch-size")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures") / "in"
    folder.mkdir()
    for i in range(COUNT):
        whole = bundled_pictures()[i % 8]
        first = 32 * (1 + i // 8)
        pixels = whole.pixels[:, first : first + 32, first : first + 32]
        write_picture(folder / f"cell-{i:02d}.png", pixels, like=whole)
    return folder


@pytest.fixture(scope="module")
def start(pictures: Path, model: Path) -> Callable[..., subprocess.Popen[str]]:
    def start(out: Path, *more: str) -> subprocess.Popen[str]:
        program = [sys.executable, "-m", "certes", "batch", str(pictures), str(out), *OPTIONS, "2"]
        return subprocess.Popen(
            [*program, "--model", str(model), "--workers", "2", *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"},
        )

    return start


def results(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.iterdir() if path.suffix in (".png", ".tif"))
    return {path.name: path.read_bytes() for path in files}


def rows(folder: Path) -> list[dict[str, Any]]:
    return parquet.read_table(folder / NAME).to_pylist()


def wait_for(what: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    """What comes to be while a process runs."""
    while process.poll() is None:
        found = what()
        if found:
            return found
        time.sleep(0.02)
    pytest.fail(f"the run ended too soon: {process.communicate()[1]}")


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    def is_worker(child: psutil.Process) -> bool:
        try:
            return "ray::MapWorker" in " ".join(child.cmdline())
        except psutil.Error:
            return False

    return [child.pid for child in psutil.Process(process.pid).children(True) if is_worker(child)]


@pytest.fixture(scope="module")
def restored(
    pictures: Path, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """By certes restore, in one process."""
    out = tmp_path_factory.mktemp("restored")
    program = [sys.executable, "-m", "certes", "restore", str(pictures), *OPTIONS[:-1]]
    words = [*program, "--model", str(model), "--out", str(out)]
    subprocess.run(words, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    return results(out)


def test_killed_workers_and_drivers_change_nothing(
    pictures: Path,
    start: Callable[..., subprocess.Popen[str]],
    restored: dict[str, bytes],
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    first = start(out)
    wait_for(lambda: list(out.glob(f"{WORK}/rows/*.parquet")), first)
    os.kill(wait_for(lambda: workers_of(first), first)[0], signal.SIGKILL)
    done = len(list(out.glob(f"{WORK}/rows/*.parquet")))
    wait_for(lambda: len(list(out.glob(f"{WORK}/rows/*.parquet"))) > done, first)
    first.kill()
    first.communicate()
    kept = {path: path.stat().st_mtime_ns for path in out.glob(f"{WORK}/rows/*.parquet")}
    assert kept  # the first run did something
    saved = {name for path in kept for name in parquet.read_table(path)["name"].to_pylist()}
    assert len(saved) < COUNT  # and was not through
    times = {name: (out / f"{name}.intervals.tif").stat().st_mtime_ns for name in saved}

    (pictures / "poison.png").write_bytes(b"no picture")
    second = start(out)
    said, complaints = second.communicate()
    (pictures / "poison.png").unlink()
    assert second.returncode == 2
    assert "poison.png: not a picture" in complaints
    assert "Traceback" not in complaints
    assert "logging.cc" not in complaints  # Ray's own words
    found = {row["name"]: row["status"] for row in rows(out)}
    assert len(rows(out)) == len(found) == COUNT + 1
    assert [name for name, status in found.items() if status != "done"] == ["poison"]
    assert results(out) == restored
    assert names(out) == sorted([*restored, NAME])  # nothing hidden is left
    again = {name: (out / f"{name}.intervals.tif").stat().st_mtime_ns for name in saved}
    assert again == times  # what was done was not done again
    assert str(out / NAME) in said


def test_all_done_is_nothing_to_do_and_other_settings_are_refused(
    certes: Certes, pictures: Path, model: Path, tmp_path: Path
) -> None:
    """Neither needs Ray: a manifest tells."""
    from certes.apps.batch.inputs import pictures_at
    from certes.apps.batch.job import Job
    from certes.apps.batch.manifest import Manifest
    from certes.apps.batch.places import Place
    from certes.apps.batch.worker import Worker
    from certes.apps.options import Asked, SamplingOptions, TaskName

    out = tmp_path / "out"
    sampling = SamplingOptions(str(model), 2, 2, 0.1, 0, None, None, None, None)
    job = Job(Asked(TaskName.DENOISE, noise="0.1"), sampling, None, None, str(out))
    Manifest(Place(str(out))).add(Worker(job, "run")(pictures_at(str(pictures))))
    arguments = (pictures, out, *OPTIONS[:-1], "--model", model)
    answer = certes("batch", *arguments, "--json")
    assert answer.code == 0, answer.err
    assert (answer.json["pictures"], answer.json["done_before"]) == (COUNT, COUNT)
    refused = certes("batch", *arguments[:-3], "3", "--model", model)
    assert refused.code == 2
    assert "holds results of other settings" in refused.err


@pytest.fixture
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Ray that somebody else started, with two CPUs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    words = ["start", "--head", "--block", f"--port={address.rpartition(':')[2]}"]
    room = ["--num-cpus=2", "--object-store-memory=200000000", "--include-dashboard=false"]
    program = [str(Path(sys.executable).with_name("ray")), *words, *room, "--disable-usage-stats"]
    head = subprocess.Popen(
        program,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"RAY_AUTH_MODE": "disabled"},
    )
    yield address
    family = psutil.Process(head.pid).children(recursive=True)
    head.terminate()
    head.wait(60)
    for process in psutil.wait_procs(family, timeout=20)[1]:
        process.kill()


def listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def test_on_a_cluster_that_runs_elsewhere(
    start: Callable[..., subprocess.Popen[str]],
    elsewhere: str,
    restored: dict[str, bytes],
    tmp_path: Path,
) -> None:
    """More workers are asked for than it has CPUs: those that find room do the work."""
    host, _, port = elsewhere.partition(":")
    deadline = time.monotonic() + 120
    while not listens(host, int(port)):
        assert time.monotonic() < deadline, "the cluster did not start"
        time.sleep(0.2)
    run = start(tmp_path / "out", "--address", elsewhere, "--workers", "5")
    said, complaints = run.communicate(timeout=300)
    assert run.returncode == 0, complaints
    assert results(tmp_path / "out") == restored
    assert str(tmp_path / "out" / NAME) in said


def test_where_nobody_listens_one_line_says_so(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1", "nowhere", "127.0.0.1:99999"):
        run = start(tmp_path / "out", "--address", address)
        _, complaints = run.communicate(timeout=120)
        assert run.returncode == 2
        (line,) = complaints.splitlines()
        assert line.startswith(f"error: address: {address}: nobody listens there")
