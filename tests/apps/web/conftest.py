"""A tiny model, a server of its own, and a browser."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from ..helpers import grey, tiny_model

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
START = 60.0


@dataclass(frozen=True)
class Server:
    """A running ``certes serve``.

    Args:
        address: of its page.
        process: its process.
        temporary: the folder that it takes for the system's temporary one.
    """

    address: str
    process: subprocess.Popen[str]
    temporary: Path

    def files(self) -> list[Path]:
        """All files that it keeps."""
        return [path for path in self.temporary.rglob("*") if path.is_file()]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def started(temporary: Path, *arguments: str) -> Server:
    port = free_port()
    command = [sys.executable, "-m", "certes", "serve", "--port", str(port), *arguments]
    process = subprocess.Popen(
        command,
        env={**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    server = Server(f"http://127.0.0.1:{port}/", process, temporary)
    for _ in range(int(START / 0.2)):
        try:
            urlopen(server.address, timeout=5).close()
            return server
        except (URLError, ConnectionError):
            if process.poll() is not None:
                break
            time.sleep(0.2)
    process.kill()
    pytest.fail(f"the server did not start: {process.communicate()[0]}")


def ended(server: Server) -> str:
    """End it as a system does; returns what it printed."""
    server.process.terminate()
    try:
        return server.process.communicate(timeout=30)[0]
    except subprocess.TimeoutExpired:
        server.process.kill()
        raise


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("web") / "tiny", 1, "tiny")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Generator[Server, None, None]:
    pytest.importorskip("gradio", reason="the extra web is not installed")
    running = started(
        tmp_path_factory.mktemp("served"), "--model", "nuclei", "--model", str(tiny),
        "--max-pixels", "70000", "--max-upload", "1",
    )  # fmt: skip
    yield running
    if running.process.poll() is None:
        ended(running)


@pytest.fixture(scope="module")
def browser() -> Generator[Any, None, None]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no chromium")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def cells(tmp_path: Path) -> list[Path]:
    """Two different grey pictures of 32 x 32 pixels."""
    return [grey(tmp_path / f"cell-{i}.png", i) for i in range(2)]
