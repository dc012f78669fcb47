"""A Ray of one's own, which ends with the program, or one that runs elsewhere."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, cast

from certes.apps.console import note
from certes.apps.extras import need
from certes.data.stderr import stderr_into
from certes.errors import InputError

_STORE = 200 * 2**20  # bytes; what passes between processes is names and rows
_TRIES = 3
_PATIENCE = 10.0  # seconds


def import_ray() -> Any:
    """Ray, quiet and without telling anybody.

    Raises: InputError if it is not installed.
    """
    need("batch", "ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its C++ half speaks to stderr
    import ray
    import ray.data  # pyright: ignore[reportUnusedImport]

    return cast(Any, ray)


@contextmanager
def cluster(address: str | None, workers: int | None) -> Generator[Any, None, None]:
    """Yield Ray, started here or found at an address.

    Args:
        address: of a cluster that runs, ``host:port`` or ``ray://host:port``, or ``auto``.
        workers: processes that a Ray of one's own has room for; by default as many as CPUs.

    Raises: InputError if it does not start, or cannot be reached.
    """
    ray = import_ray()
    common = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if address is None:
        _start(ray, num_cpus=workers, **common)
    else:
        _connect(ray, address, **common)
    _hush(ray)
    try:
        yield ray
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str, **settings: Any) -> None:
    if address != "auto":
        _check_that_somebody_listens(address)
    with _unheard() as said:
        try:
            ray.init(address=address, **settings)
        except Exception as error:  # it has no common kind of error for that
            reason = " ".join(str(error).split())
            if "InvalidAuthToken" in said():
                reason = "it wants its token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to it"
            raise InputError(f"address: {address}: no Ray answers there ({reason})") from error


def _check_that_somebody_listens(address: str) -> None:
    """Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(
            f"address: {address}: nobody listens there ({error}): give host:port, ray://host:port "
            "or auto"
        ) from error


@contextmanager
def _unheard() -> Generator[Callable[[], str], None, None]:
    """Hear what Ray's C++ half says to stderr in place of the user; yields what tells it."""
    with tempfile.TemporaryFile() as file, stderr_into(file):
        yield lambda: os.pread(file.fileno(), 2**20, 0).decode(errors="replace")


def _start(ray: Any, **settings: Any) -> None:
    """A Ray on this machine; where there is much else to do it misses its own deadline of 30 s."""
    for tries_left in range(_TRIES - 1, -1, -1):
        try:
            # Not one that RAY_ADDRESS names: that is for who says --address auto.
            with _unheard():
                ray.init("local", include_dashboard=False, object_store_memory=_STORE, **settings)
            return
        except Exception as error:  # it has no common kind of error for that
            ray.shutdown()
            if not tries_left:
                reason = " ".join(str(error).split())
                raise InputError(f"ray: does not start on this machine ({reason})") from error
            note(f"Ray did not start in time, trying again ({tries_left} more)")


def devices(ray: Any) -> tuple[int, int]:
    """GPUs and CPUs of the cluster."""
    found: dict[str, float] = ray.cluster_resources()
    return int(found.get("GPU", 0)), int(found.get("CPU", 1))


def _hush(ray: Any) -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
