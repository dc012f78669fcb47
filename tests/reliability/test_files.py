"""The writers under all commands: killed, told to end, on a disk that is full or read-only."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from certes.apps.outputs import all_or_nothing
from certes.data import files
from certes.data.files import PREFIX, atomic_path, scratch_folder, sweep, write_json
from certes.data.pictures import Picture, write_picture, write_tiff_stack
from certes.data.tensors import write_tensors

from .killing import files_in, halves, hidden_in, killed, refused

NOISE = torch.rand(1, 400, 400, generator=torch.Generator().manual_seed(0))


def picture(path: Path, dtype: str) -> None:
    write_picture(path, NOISE, Picture("a", NOISE, None, dtype))  # pyright: ignore[reportArgumentType]


def together(path: Path) -> None:
    with all_or_nothing(path.parent) as folder:
        write_json(folder / path.name, NOISE.tolist())


def figure(path: Path) -> None:
    import matplotlib.figure

    drawn = matplotlib.figure.Figure(figsize=(9, 9))
    drawn.subplots().imshow(NOISE[0])
    with atomic_path(path) as temporary:
        drawn.savefig(temporary, format="png")


WRITERS: dict[str, Callable[[Path], None]] = {
    "a.json": lambda path: write_json(path, NOISE.tolist()),
    "b.json": together,
    "a.png": lambda path: picture(path, "uint8"),
    "a16.png": lambda path: picture(path, "uint16"),
    "a.tif": lambda path: picture(path, "float32"),
    "stack.tif": lambda path: write_tiff_stack(path, {"a": NOISE, "b": NOISE}),
    "figure.png": figure,
    "a.safetensors": lambda path: write_tensors(path, {"a": NOISE}),
}
OLD = b"old"


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("change", range(5))
def test_killed_while_writing(tmp_path: Path, name: str, change: int) -> None:
    (tmp_path / name).write_bytes(OLD)
    before = files_in(tmp_path)
    assert killed(lambda: WRITERS[name](tmp_path / name), tmp_path, change)
    assert halves(before, files_in(tmp_path)) == []
    sweep(tmp_path)
    assert hidden_in(tmp_path) == []


def test_a_writer_in_place_is_found_out(tmp_path: Path) -> None:
    """The negative control of every test here that kills."""

    def in_place() -> None:
        with (tmp_path / "a.json").open("w") as file:
            file.write("[1, ")
            file.flush()
            (tmp_path / "a.json").chmod(0o644)
            file.write("2]")

    (tmp_path / "a.json").write_bytes(OLD)
    before = files_in(tmp_path)
    assert killed(in_place, tmp_path, 1)
    assert halves(before, files_in(tmp_path)) == ["a.json"]


def test_files_and_their_names_reach_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Content first, then the new name; without either a crash can leave an empty file."""
    synced, told = list[str](), os.fsync

    def note(handle: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file"
        synced.append(f"{kind}, {(tmp_path / 'a.json').exists()}")
        told(handle)

    monkeypatch.setattr(os, "fsync", note)
    write_json(tmp_path / "a.json", [])
    assert synced == ["file, False", "folder, True"]


@pytest.mark.parametrize("change", range(3))
@pytest.mark.parametrize("name", WRITERS)
def test_no_room_for_a_file_or_a_name(tmp_path: Path, name: str, change: int) -> None:
    (tmp_path / name).write_bytes(OLD)
    with pytest.raises(OSError, match="No space left") as raised:
        refused(lambda: WRITERS[name](tmp_path / name), tmp_path, change, errno.ENOSPC)
    assert PREFIX not in str(raised.value)
    assert str(tmp_path) in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == OLD


def test_a_disk_that_turns_out_to_be_full_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system takes more than it has room for, the last flush tells."""

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "a.json").write_bytes(OLD)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path}/a\.json'"):
        write_json(tmp_path / "a.json", [])
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_bytes() == OLD


@contextmanager
def mounted(folder: Path, options: str) -> Generator[None]:
    """A file system of its own, in memory; only the administrator may make one."""
    folder.mkdir()
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("mounting a small file system takes an administrator")
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("this machine mounts no file systems")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_small_disk(tmp_path: Path) -> None:
    """The real thing; every writer wants more than there is."""
    small = tmp_path / "small"
    with mounted(small, "size=64k"):
        for name, write in WRITERS.items():
            (small / name).write_bytes(OLD)
            with pytest.raises(OSError, match=r"No space left|is the disk full\?") as raised:
                write(small / name)
            assert str(raised.value).endswith(f"'{small / name}'")
            assert (small / name).read_bytes() == OLD
            assert hidden_in(small) == []


def test_a_disk_that_is_read_only(tmp_path: Path) -> None:
    small = tmp_path / "small"
    with mounted(small, "ro"):
        for name, write in WRITERS.items():
            with pytest.raises(OSError, match=f"Read-only file system: '{small}'"):
                write(small / name)


def test_a_folder_that_may_not_be_written_to(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("an administrator may write anywhere")
    tmp_path.chmod(0o555)
    for name, write in WRITERS.items():
        with pytest.raises(PermissionError, match=str(tmp_path)):
            write(tmp_path / name)
    tmp_path.chmod(0o755)


def test_what_is_in_use_is_not_swept(tmp_path: Path) -> None:
    """By this process, or by another that is alive; the lock of one that died is gone."""
    (tmp_path / f"{PREFIX}stale").mkdir()
    hold = (
        "import sys; from pathlib import Path; from certes.data.files import scratch_folder\n"
        "with scratch_folder(Path(sys.argv[1])) as folder:\n"
        "    print(folder, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    theirs = Path(other.stdout.readline().strip())
    with scratch_folder(tmp_path) as ours:
        sweep(tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted([ours, theirs])
        other.kill()
        other.communicate()
        assert theirs.exists()
        sweep(tmp_path)
        assert list(tmp_path.iterdir()) == [ours]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "cleans"), [("SIGTERM", True), ("SIGKILL", False)])
def test_told_to_end(tmp_path: Path, number: str, cleans: bool) -> None:
    """The program cleans up on its way out; killed it cannot, and the next run does."""
    work = (
        "import sys, time; from pathlib import Path\n"
        "from certes.apps import cli\n"
        "from certes.apps.outputs import all_or_nothing\n"
        "def work():\n"
        "    with all_or_nothing(Path(sys.argv[1])):\n"
        "        print('started', flush=True)\n"
        "        time.sleep(60)\n"
        "cli.app = work\n"
        "cli.main()\n"
    )
    command = [sys.executable, "-c", work, str(tmp_path)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout is not None
    running.stdout.readline()
    running.send_signal(getattr(signal, number))
    _, said = running.communicate()
    assert said == ""
    assert running.returncode == (128 + signal.SIGTERM if cleans else -signal.SIGKILL)
    assert (hidden_in(tmp_path) == []) is cleans
    files._sweep_once.cache_clear()
    with all_or_nothing(tmp_path):
        pass
    assert hidden_in(tmp_path) == []
