"""Atomic files: a reader sees the old file or the whole new one, never half of one.

What is not finished yet lies in a hidden folder beside its target. A run that is killed leaves that
folder behind; the next one that writes to the same place removes it. That a folder is still in use
is told by a lock, which the system takes from a process when it dies, however it does.
"""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # a system without such locks: nothing is removed there
    fcntl = None

PREFIX = ".certes-"
"""Of the names of hidden folders."""


@contextmanager
def atomic_path(path: str | Path) -> Generator[Path, None, None]:
    """Yield a temporary path; on success it becomes `path`, on error it is removed.

    Its name is that of `path`, because picture writers choose the format by it. Missing parent
    folders are made. The file and its folder are flushed to disk, so that a crash leaves either the
    old file or the new one.

    Raises: OSError, naming `path`, when it cannot be written.
    """
    path = Path(path)
    with naming(path, path.parent), scratch_folder(path.parent) as folder:
        yield folder / path.name
        move([folder / path.name], path.parent)


@contextmanager
def scratch_folder(parent: Path) -> Generator[Path, None, None]:
    """Yield a new hidden folder in `parent`, which is made if need be; at the end it is gone.

    Raises: OSError when `parent` cannot be written to.
    """
    with naming(parent, parent):
        parent.mkdir(parents=True, exist_ok=True)
        _sweep_once(parent)
        folder, lock = _locked_folder(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def move(files: Sequence[Path], folder: Path) -> None:
    """Move what is finished, files or whole folders, into a folder in that order, each at once.

    Raises: OSError when the disk does not take them.
    """
    for file in files:
        _flush(file)
        if file.is_file():
            # What is not named yet may be private; a result is as readable as any of its user's.
            file.chmod(0o666 & ~_umask())
    for file in files:
        os.replace(file, folder / file.name)
    _flush(folder)


@contextmanager
def naming(path: Path, folder: Path) -> Generator[None, None, None]:
    """Name what users know in errors of the system, which name hidden files or none at all.

    Encoders know no more than that they could not write: then the disk is full, as a rule.

    Args:
        path: what the work inside the block is on.
        folder: where hidden files will go, by their own names.
    """
    try:
        yield
    except OSError as error:
        known = Path(str(error.filename or path))
        hidden = any(part.startswith(PREFIX) for part in known.parts)
        shown = path if known.name.startswith(PREFIX) else folder / known.name if hidden else known
        if error.errno is None:
            reason = f"could not be written ({error}): is the disk full?"
            raise OSError(errno.EIO, reason, str(shown)) from error
        raise OSError(error.errno, error.strerror, str(shown)) from error


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically.

    Raises: ValueError for NaN and infinity, which are not JSON.
    """
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """The content of a JSON file.

    Raises: OSError if it cannot be read; ValueError as `parse_json` does.
    """
    return parse_json(Path(path).read_text(encoding="utf-8"))


def parse_json(text: str) -> Any:
    """What JSON says.

    Raises: ValueError if it is none, if a number is NaN or infinite (which Python's own reader
    takes, and JSON does not know), or if it is nested beyond all use.
    """
    try:
        return json.loads(text, parse_float=_finite, parse_constant=_finite)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits} is no finite number")
    return value


def _locked_folder(parent: Path) -> tuple[Path, int | None]:
    """A new folder, and what holds its lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        lock = _lock(folder, wait=True)
        if folder.exists():
            return folder, lock
        if lock is not None:  # somebody swept it before it was locked
            os.close(lock)


def sweep(parent: Path) -> None:
    """Remove what killed runs left in a folder; the first `scratch_folder` there does so, too."""
    for folder in parent.glob(f"{PREFIX}*"):
        lock = _lock(folder, wait=False)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


@lru_cache(maxsize=1024)
def _sweep_once(parent: Path) -> None:
    """As `sweep`, for the first of many writers to a folder."""
    sweep(parent)


def _lock(folder: Path, wait: bool) -> int | None:
    """What holds the lock of a folder; None if another has it, or the file system knows none."""
    if fcntl is None:
        return None
    handle = None
    try:
        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if handle is not None:
            os.close(handle)
        return None
    return handle


def _flush(path: Path) -> None:
    """To disk: a file's content, or the names in a folder."""
    if fcntl is None and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
