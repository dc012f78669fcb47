"""The program as users call it, tiny models for it, and pictures of 32 x 32 pixels."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from certes.apps.cli import app

from .helpers import Answer, Certes, grey, tiny_model


@pytest.fixture
def certes() -> Certes:
    def call(*arguments: object) -> Answer:
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result
        return Answer(result.exit_code, result.stdout, result.stderr)

    return call


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny", 1, "tiny")


@pytest.fixture(scope="session")
def colour_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny-rgb", 3, "tiny-rgb")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A grey picture of 32 x 32 pixels."""
    return grey(tmp_path / "cell.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four different grey pictures."""
    for i in range(4):
        grey(tmp_path / "truth" / f"cell-{i}.png", i)
    return tmp_path / "truth"
