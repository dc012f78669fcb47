"""What holds for every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def threads_are_left_as_they_were() -> Iterator[None]:
    """Sums depend on the threads that make them: a test that changed them would change others."""
    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before, "torch.set_num_threads was called and not undone"
