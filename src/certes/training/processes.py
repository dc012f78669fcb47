"""Processes that train together: one for each device, on one machine or on several.

``torchrun`` or ``accelerate launch`` start them and say in the environment who they are. All make
the same steps, each with its share of the batch; the first, the main one, alone writes files and
speaks. On CPUs they talk by gloo, on GPUs by NCCL.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from accelerate import PartialState  # pyright: ignore[reportMissingTypeStubs]
from jaxtyping import Float
from torch import Tensor

from certes.errors import InputError, ModelError

# The main process may measure a model, or draw pictures to look at, while the others wait.
_PATIENCE = timedelta(days=1)
# Seconds in which a launcher ends all processes when one has failed.
_GRACE = 5.0
# What libraries say, as plain RuntimeErrors, when a process at the other end is gone.
_GONE = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "gloo", "NCCL")

_dist, _torch = cast(Any, dist), cast(Any, torch)  # typed in part only


def join() -> Any:
    """Meet the other processes, if a launcher started several; returns accelerate's state.

    Raises:
        InputError: if the devices here cannot work together.
    """
    wanted = int(os.environ.get("WORLD_SIZE", "1"))
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    if wanted > 1 and not _torch.accelerator.is_available():
        on_cpu = True  # otherwise accelerate would take each process for one that is alone
    state: Any = PartialState(cpu=on_cpu, timeout=_PATIENCE)
    if state.num_processes != max(wanted, 1):
        raise InputError(
            f"processes: {wanted} were started, but those of {state.device} cannot train together; "
            "start one, or set ACCELERATE_USE_CPU=true"
        )
    return state


def is_main() -> bool:
    """Whether this process is the one that writes and speaks."""
    return not _several() or _dist.get_rank() == 0


def mean_of_all(values: Float[Tensor, " *shape"]) -> Float[Tensor, " *shape"]:
    """The mean over all processes, the same on each.

    Args:
        values: this process's means over its share of a batch; shares are equally large.
    """
    if not _several():
        return values
    total = values.detach().clone()
    _dist.all_reduce(total)
    return total / _dist.get_world_size()


@contextmanager
def main_first() -> Generator[None]:
    """What the main process does once, and the others after it: they find it done."""
    if not is_main():
        _dist.barrier()
    yield
    if is_main() and _several():
        _dist.barrier()


@contextmanager
def united() -> Generator[None]:
    """Work of all processes: when one fails, all end, and one line says why.

    An error that all meet is the main process's to tell; one that a single process meets is its
    own, told a little later. Those who only lose the others say nothing while a launcher ends them.

    Raises:
        ModelError: if another process has gone and nothing ended this one.
    """
    try:
        yield
    except KeyboardInterrupt:
        if is_main():
            raise
        raise SystemExit(130) from None  # one line is enough
    except Exception as error:
        lost = _several() and _is_of_a_lost_process(error)
        if lost or not is_main():
            time.sleep(_GRACE)
        if lost:
            raise ModelError(
                "training: another process has gone; start all again with --resume, which goes on "
                "from the last checkpoint"
            ) from error
        raise
    leave()


def leave() -> None:
    """Part from the others."""
    if _several():
        _dist.destroy_process_group()


def _several() -> bool:
    return bool(_dist.is_available() and _dist.is_initialized())


def _is_of_a_lost_process(error: Exception) -> bool:
    if isinstance(error, _dist.DistError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _GONE)
