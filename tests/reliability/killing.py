"""Processes that are killed at a chosen moment of their writing, and what they leave behind."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tifffile
import torch
from PIL import Image
from safetensors.torch import load

from certes.generation.codec.container import unpack

Files = Mapping[str, bytes]

_WRITING = os.O_WRONLY | os.O_RDWR
_MAKING = ("os.mkdir", "os.rename")
_CHANGING = (*_MAKING, "os.remove", "os.rmdir", "os.chmod")


def killed(work: Callable[[], object], folder: Path, change: int) -> bool:
    """Do some work in a process of its own that is killed before one of its changes of files.

    Args:
        work: what to do.
        folder: whose files count.
        change: which one, the first is 0.

    Returns: whether it came to that; otherwise the work was done first.
    """
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)  # the threads of the parent are not here
        _count_down(folder, change, lambda _: os.kill(os.getpid(), signal.SIGKILL), _CHANGING)
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def refused(work: Callable[[], object], folder: Path, change: int, error: int) -> None:
    """Do some work in this process; from one on, the system makes no more files and names."""

    def refuse(path: str) -> None:
        raise OSError(error, os.strerror(error), path)

    _count_down(folder, change, refuse, _MAKING)
    try:
        work()
    finally:
        _listeners.clear()


def _count_down(
    folder: Path, change: int, then: Callable[[str], None], events: tuple[str, ...]
) -> None:
    """Have something done at a change of files, and at all that follow."""
    left, mine = [change], str(folder)

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and bool(int(arguments[2] or 0) & _WRITING)
        if not writes and event not in events:
            return
        if mine in str(arguments[0]) or (event == "os.rename" and mine in str(arguments[1])):
            left[0] -= 1
            if left[0] < 0:
                then(str(arguments[0]))

    _listeners.append(hear)


_listeners: list[Callable[[str, tuple[Any, ...]], None]] = []


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    for listener in _listeners:
        listener(event, arguments)


sys.addaudithook(_heard)  # there for good, so that there is one


def files_in(folder: Path) -> dict[str, bytes]:
    """All files of a folder but hidden ones and logs, which grow."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = {str(path.relative_to(folder)): path for path in paths}
    return {
        name: path.read_bytes()
        for name, path in names.items()
        if not name.startswith("logs/")
        and not any(part.startswith(".") for part in Path(name).parts)
    }


def hidden_in(folder: Path) -> list[str]:
    """What is hidden anywhere in a folder."""
    return [str(path) for path in folder.rglob(".*")]


def halves(before: Files, after: Files) -> list[str]:
    """The files that are neither as they were nor whole, nor there where they were.

    The card of a model may be gone: a folder without is no model, and says so.
    """
    broken = [
        n for n, content in after.items() if before.get(n) != content and not _whole(n, content)
    ]
    lost = [name for name in before if name not in after and not name.endswith("certes.json")]
    return broken + lost


def _whole(name: str, content: bytes) -> bool:
    """Whether a reader of such files gets to the end of one."""
    try:
        match Path(name).suffix:
            case ".json":
                json.loads(content)
            case ".png":
                with Image.open(io.BytesIO(content)) as image:
                    image.load()
            case ".tif":
                tifffile.imread(io.BytesIO(content))
            case ".safetensors" | ".tally":
                load(content)
            case ".crt":
                return unpack(content).complete
            case ".html":
                return content.rstrip().endswith(b"</html>")
            case _:
                return False
    except Exception:
        return False
    return True
