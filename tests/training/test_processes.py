"""Processes that train together: what each does by itself."""

from __future__ import annotations

import pytest
import torch

from certes.errors import InputError, ModelError
from certes.training import processes
from certes.training.loop import check_share
from certes.training.processes import is_main, join, main_first, mean_of_all, united


def test_uneven_shares_are_refused() -> None:
    check_share(8, 4)
    with pytest.raises(InputError, match="10 patches cannot be shared evenly by 4"):
        check_share(10, 4)


def test_one_process_is_the_main_one() -> None:
    assert join().num_processes == 1
    assert is_main()
    values = torch.tensor([1.0, 3.0])
    assert torch.equal(mean_of_all(values), values)
    with main_first():
        pass


def test_processes_that_do_not_meet_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would train by itself, and overwrite what the other writes."""
    join()  # as one process, before anybody said that there are two
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="processes: 2 were started"):
        join()


def test_an_error_of_one_process_is_told_as_it_is() -> None:
    with pytest.raises(ModelError, match=r"^mine$"), united():
        raise ModelError("mine")


def test_a_lost_process_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_several", lambda: True)
    monkeypatch.setattr(processes, "is_main", lambda: True)
    monkeypatch.setattr(processes, "_GRACE", 0.0)
    gone = "[pair.cc:534] Connection closed by peer [127.0.0.1]:26"
    with pytest.raises(ModelError, match="another process has gone"), united():
        raise RuntimeError(gone)
    with pytest.raises(RuntimeError, match="shapes"), united():
        raise RuntimeError("shapes differ")
