"""A reader sees the old file or the whole new one, and nothing else is left behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from certes.data.files import atomic_path, write_json


def test_new_content_appears_at_the_end_only(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
        assert temporary.parent.parent == target.parent  # one file system, so that it can be moved
        assert temporary.parent.name.startswith(".")
        assert temporary.name == target.name
    assert [p.name for p in target.parent.iterdir()] == ["a.txt"]
    assert target.read_text() == "new"


def test_an_error_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"µ": 1})
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.json").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"µ": 1}


def test_json_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []
