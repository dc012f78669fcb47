"""What libraries write to the process's stderr by themselves, past Python's own."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import IO

_STDERR = 2
_one_at_a_time = threading.Lock()


@contextmanager
def stderr_into(file: IO[bytes]) -> Generator[None, None, None]:
    """Let it go into a file in place of the user's terminal, by one thread at a time."""
    with _one_at_a_time:
        try:
            kept = os.dup(_STDERR)
        except OSError:  # a program without stderr
            yield
            return
        try:
            os.dup2(file.fileno(), _STDERR)
            yield
        finally:
            os.dup2(kept, _STDERR)
            os.close(kept)
