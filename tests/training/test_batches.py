from __future__ import annotations

import threading
from itertools import islice

import pytest
import torch

from certes.training.batches import prefetched


def test_in_order_and_ahead() -> None:
    made: list[int] = []
    ahead = threading.Event()

    def make(step: int) -> torch.Tensor:
        made.append(step)
        if len(made) > 10:
            ahead.set()
        return torch.tensor(step)

    batches = prefetched(make, range(5, 100))
    assert [int(batch) for batch in islice(batches, 10)] == list(range(5, 15))
    assert ahead.wait(30)  # some are made in advance,
    assert len(made) < 30  # not all
    assert [int(batch) for batch in batches] == list(range(15, 100))
    assert sorted(made) == list(range(5, 100))


def test_fewer_steps_than_it_looks_ahead() -> None:
    assert [int(b) for b in prefetched(torch.tensor, range(3))] == [0, 1, 2]
    assert list(prefetched(torch.tensor, range(0))) == []


def test_errors_arrive_where_the_batch_was_due() -> None:
    def make(step: int) -> torch.Tensor:
        if step == 2:
            raise ValueError("no such patch")
        return torch.tensor(step)

    batches = prefetched(make, range(10))
    assert [int(next(batches)), int(next(batches))] == [0, 1]
    with pytest.raises(ValueError, match="no such patch"):
        next(batches)


def test_closing_ends_the_threads() -> None:
    before = threading.active_count()
    batches = prefetched(torch.tensor, range(10**9))
    next(batches)
    assert threading.active_count() > before
    batches.close()
    assert threading.active_count() == before
