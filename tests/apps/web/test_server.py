"""What the server leaves on the disk, without running it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from certes.apps.jobs.serve import serve
from certes.apps.web.limits import Limits
from certes.apps.web.server import DESKS, Place, remove_strays
from certes.errors import InputError


def test_strays_go_and_what_is_new_or_on_a_desk_stays(tmp_path: Path) -> None:
    old, new, desk = tmp_path / "sha-1", tmp_path / "sha-2", tmp_path / DESKS / "mine"
    for folder in (old, new, desk):
        folder.mkdir(parents=True)
        (folder / "picture.png").write_bytes(b"x")
    stray = tmp_path / "tmp123"
    stray.touch()
    long_ago = time.time() - 100
    for path in (old, stray, tmp_path / DESKS):
        os.utime(path, (long_ago, long_ago))
    remove_strays(tmp_path, 60)
    assert not old.exists()
    assert not stray.exists()
    assert (new / "picture.png").exists()
    assert (desk / "picture.png").exists()


@pytest.mark.parametrize(("host", "warned"), [("0.0.0.0", 1), ("127.0.0.1", 0)])
def test_who_can_be_reached_from_elsewhere_is_told(
    host: str,
    warned: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuses(*_: object) -> None:
        raise InputError("not here")

    monkeypatch.setattr("certes.apps.jobs.serve.serving", refuses)
    with pytest.raises(InputError, match="not here"):
        serve(Place(host, 8000), Limits(10, 1, 1), ["nuclei"])
    assert capsys.readouterr().err.count("warning: ") == warned


def test_a_host_that_is_not_here_is_refused() -> None:
    with pytest.raises(InputError, match=r"port: 8000 at 192\.0\.2\.1 cannot be had"):
        Place("192.0.2.1", 8000).check()
