"""Training batches made ahead of time, so that a fast device need not wait for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from certes.data.patches import EVERY

# Cutting patches releases the interpreter's lock; four cores fill about 10000 patches a second.
_WORKERS = 4
_AHEAD = 8


class Batches(Protocol):
    """Training patches."""

    def batch(
        self, step: int, batch_size: int, seed: int, share: slice = EVERY
    ) -> Float[Tensor, "b c s s"]:
        """The patches of one step, in [0, 1]: a pure function of (seed, step).

        Args:
            step: number of the step.
            batch_size: patches of the whole batch.
            seed: of the run.
            share: which of them are wanted; no others are made.
        """
        ...


def prefetched(
    make: Callable[[int], Tensor], steps: Iterable[int]
) -> Generator[Tensor, None, None]:
    """``make(step)`` for every step, in order, several of them in the making at any time.

    Args:
        make: a pure function of the step, called from other threads; what it raises is raised here.
        steps: the steps.
    """
    pool, waiting = ThreadPoolExecutor(_WORKERS), deque[Future[Tensor]]()
    try:
        for step in steps:
            waiting.append(pool.submit(make, step))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
