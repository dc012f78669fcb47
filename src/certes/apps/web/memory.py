"""Keeping the server as small as what it holds.

glibc gives each thread a pool of memory of its own, and keeps what was freed in it: a server whose
requests are answered by many threads would grow for a long time without holding any more. Other
systems' allocators are left alone.
"""

from __future__ import annotations

import ctypes
import sys

_POOLS_OPTION, _POOLS = -8, 2  # M_ARENA_MAX of malloc.h


def few_pools() -> None:
    """To be called before threads are started."""
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "mallopt"):
            library.mallopt(_POOLS_OPTION, _POOLS)


def give_back() -> None:
    """What was freed goes back to the system."""
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "malloc_trim"):
            library.malloc_trim(0)
