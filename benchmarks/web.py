"""The web page under use and abuse: memory, malformed uploads, files left; some five minutes.

Real HTTP to a running ``certes serve`` (the very requests that the page's own script sends), by the
client below. Memory is the resident set of the server's process.
"""

from __future__ import annotations

import io
import json
import os
import secrets
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from _report import Report
from PIL import Image

from certes.data.bundled import bundled_pictures

WARM_UP, REQUESTS, MALFORMED = 5, 20, 50
GROWTH = 0.05
SIDE = 96
FORM = ("task", "factor", "kernel", "quality", "noise", "model", "samples", "steps", "alpha",
        "seed", "degrade")  # fmt: skip
SETTINGS = ("denoise", None, "", None, "0.1", "nuclei", 8, 4, 0.3, 0, True)
CLEARED = 150.0  # s, until strays are swept


class User:
    """A browser tab: a cookie, a session, and the page's own requests."""

    def __init__(self, address: str) -> None:
        self.web = httpx.Client(base_url=address, timeout=120)
        self.web.get("/")
        config = self.web.get("/config").json()
        self.tab = secrets.token_hex(6)
        self.ids = {
            c["props"]["elem_id"]: c["id"]
            for c in config["components"]
            if c["props"].get("elem_id")
        }
        self.calls = {
            (target, event): call["id"]
            for call in config["dependencies"]
            for target, event in call["targets"]
        }
        self.answers = {call["id"]: call["outputs"] for call in config["dependencies"]}

    def upload(self, name: str, content: bytes) -> dict[str, Any] | str:
        """Upload a picture as the page does; returns what is shown, or what the upload was told."""
        answer = self.web.post("/gradio_api/upload", files={"files": (name, content)})
        if answer.status_code != 200:
            return answer.text
        (path,) = answer.json()
        file = {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}
        return self.ask("upload", "upload", [file])

    def restore(self) -> dict[str, Any]:
        """Restore with the settings of this benchmark."""
        return self.ask("restore", "click", list(SETTINGS))

    def ask(self, box: str, event: str, data: list[Any], more: Any = None) -> dict[str, Any]:
        """Call what the page calls, and wait for its last word: {elem_id: value}."""
        call = self.calls[self.ids[box], event]
        body = {"data": data, "fn_index": call, "session_hash": self.tab, "event_data": more,
                "trigger_id": self.ids[box]}  # fmt: skip
        self.web.post("/gradio_api/queue/join", json=body).raise_for_status()
        said: dict[str, Any] = {}
        names = {number: name for name, number in self.ids.items()}
        outputs = self.outputs(call)
        for message in self.messages():
            kind = message["msg"]
            if kind == "process_completed" and not message["success"]:
                raise RuntimeError(str(message["output"]))
            if kind in ("process_generating", "process_completed"):
                values = message["output"].get("data") or []
                for number, value in zip(outputs, values, strict=False):
                    skipped = isinstance(value, dict) and set(value) == {"__type__"}
                    if number in names and not skipped and not isinstance(value, list):
                        said[names[number]] = value
            if kind == "process_completed":
                return said
        raise RuntimeError("the server closed the connection")

    def leave(self) -> None:
        """Close the tab: the page holds a connection open, whose end tells the server."""
        with self.web.stream("GET", f"/gradio_api/heartbeat/{self.tab}") as answer:
            next(answer.iter_lines())
        self.web.close()

    def outputs(self, call: int) -> list[int]:
        """The components that a call answers with."""
        return self.answers[call]

    def messages(self) -> Iterator[dict[str, Any]]:
        """Of the server, as they come."""
        way = f"/gradio_api/queue/data?session_hash={self.tab}"
        with self.web.stream("GET", way) as answer:
            for line in answer.iter_lines():
                if line.startswith("data:"):
                    yield json.loads(line[5:])


def main() -> None:
    """Measure."""
    report = Report("web")
    temporary = Path(tempfile.mkdtemp())
    port = free_port()
    command = [sys.executable, "-m", "certes", "serve", "--port", str(port), "--max-upload", "1"]
    log = (temporary.parent / f"{temporary.name}.log").open("w+")
    process = subprocess.Popen(
        command, env={**os.environ, "TMPDIR": str(temporary)}, stdout=log, stderr=log
    )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(address)
        memory(report, address, process.pid)
        malformed(report, address, process)
        left(report, temporary)
        process.terminate()
        process.wait(30)
        report.claim(
            "entries in the temporary folder after SIGTERM", len(list(temporary.iterdir())), 0,
            not list(temporary.iterdir()),
        )  # fmt: skip
        log.seek(0)
        traces = log.read().count("Traceback")
        report.claim("tracebacks in the server's log, all of the above", traces, 0, traces == 0)
    finally:
        process.kill()
        shutil.rmtree(temporary, ignore_errors=True)
        Path(log.name).unlink()
    report.save()


def memory(report: Report, address: str, pid: int) -> None:
    """Requests in a row, with a picture of their own each, and a look into the result."""
    user = User(address)
    sizes = [resident(pid)]
    seconds = []
    for number in range(WARM_UP + REQUESTS):
        start = time.perf_counter()
        said = user.upload(f"cell-{number}.png", crop(number))
        assert isinstance(said, dict)
        assert said["message"] == "", said
        said = user.restore()
        assert "certes-box" in said["guarantee"], said
        said = user.ask("map", "select", ["one pixel"], {"index": [40, 60], "value": None})
        assert "<svg" in said["pixel"], said
        seconds.append(time.perf_counter() - start)
        sizes.append(resident(pid))
    growth = sizes[-1] / sizes[WARM_UP] - 1
    text = (
        f"growth of the server's memory over {REQUESTS} requests in a row (upload, restoration, "
        f"pixel) after {WARM_UP} of warm-up, from {sizes[WARM_UP] / 2**20:.0f} MiB"
    )
    report.claim(text, f"{100 * growth:.2f} %", f"at most {100 * GROWTH:.0f} %", growth <= GROWTH)
    print("resident, MiB:", [round(size / 2**20) for size in sizes])
    print("seconds a request:", round(sum(seconds) / len(seconds), 2))
    user.leave()


def malformed(report: Report, address: str, process: subprocess.Popen[bytes]) -> None:
    """Files that are no pictures, or too large ones."""
    user = User(address)
    lines = 0
    for name, content in malformed_files():
        said = user.upload(name, content)
        line = said if isinstance(said, str) else said.get("message", "")
        one = "Traceback" not in line and "\n" not in line.strip() and str(Path.home()) not in line
        refused = isinstance(said, str) or "certes-error" in line
        lines += one and refused
        if not (one and refused):
            print(name, line)
    text = f"of {MALFORMED} malformed uploads, those refused with one line"
    report.claim(text, lines, MALFORMED, lines == MALFORMED)
    crashes = int(process.poll() is not None)
    report.claim("crashes of the server by them", crashes, 0, crashes == 0)
    user.upload("good.png", crop(0))
    answers = "certes-box" in user.restore()["guarantee"]
    report.claim("a good picture is restored after them", answers, True, answers)
    user.leave()


def left(report: Report, temporary: Path) -> None:
    """Files, once users are gone and strays are swept."""
    end = time.monotonic() + CLEARED
    while time.monotonic() < end and contents(temporary):
        time.sleep(2)
    files = contents(temporary)
    text = f"temporary files at most {CLEARED:.0f} s after the last tab was closed"
    report.claim(text, files, 0, files == 0)


def contents(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


def crop(number: int) -> bytes:
    """A part of a bundled picture, another one for each number."""
    pictures = bundled_pictures()
    pixels = pictures[number % len(pictures)].pixels[0, number : number + SIDE, :SIDE]
    buffer = io.BytesIO()
    Image.fromarray((255 * pixels).round().byte().numpy()).save(buffer, format="PNG")
    return buffer.getvalue()


def malformed_files() -> list[tuple[str, bytes]]:
    """Fifty of them, of ten kinds."""
    rng = np.random.default_rng(0)
    good = crop(0)
    jpeg, tiff = (as_format(good, kind) for kind in ("JPEG", "TIFF"))
    files: list[tuple[str, bytes]] = []
    for i in range(MALFORMED // 10):
        files += [
            (f"truncated-{i}.png", good[: len(good) * (i + 1) // 7]),
            (f"truncated-{i}.jpg", jpeg[: 20 + 40 * i]),
            (f"truncated-{i}.tif", tiff[: 8 + 30 * i]),
            (f"random-{i}.png", rng.bytes(1000 * (i + 1))),
            (f"empty-{i}.tif", b""),
            (f"drawing-{i}.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>"),
            (f"page-{i}.png", b"<html><img src=x onerror=alert(1)></html>" * (i + 1)),
            (f"huge-{i}.png", png(2**30 + i, 2**30, b"")),
            (f"bomb-{i}.png", png(20_000 + i, 20_000, zlib.compress(bytes(10**7), 9))),
            (f"heavy-{i}.png", bytes(2**20 + 1 + i)),
        ]
    assert len(files) == MALFORMED
    return files


def as_format(content: bytes, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(content)).save(buffer, format=kind)
    return buffer.getvalue()


def png(width: int, height: int, data: bytes) -> bytes:
    """A grey PNG whose header says so, whatever its data."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def resident(pid: int) -> int:
    """Bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(address: str) -> None:
    for _ in range(300):
        try:
            httpx.get(address).raise_for_status()
            return
        except httpx.TransportError:
            time.sleep(0.2)
    raise RuntimeError("the server did not start")


if __name__ == "__main__":
    main()
