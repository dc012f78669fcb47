"""The page in a real headless Chromium; some 60 s.

With CERTES_SCREENSHOTS=1 it also makes the pictures of docs/img/web, with the settings that the
models' cards hold for, which takes some minutes more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest
from PIL import Image

from certes.apps.options import NO_GUARANTEE
from certes.data.bundled import bundled_pictures
from certes.data.pictures import read_picture
from certes.data.tiff import is_tiff

from ..helpers import grey, save
from .conftest import Server, ended, free_port, started

SHOTS = Path(__file__).parents[3] / "docs" / "img" / "web"
WAIT = 90_000  # ms
Open = Callable[[], Any]


@pytest.fixture
def opened(browser: Any, server: Server) -> Iterator[Open]:
    """Opens the page as another user each time."""
    contexts: list[Any] = []

    def open_page() -> Any:
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(server.address)
        page.wait_for_selector("#restore")
        return page

    yield open_page
    for context in contexts:
        context.close()


def choose(page: Any, box: str, option: str) -> None:
    page.click(f"#{box} input")
    page.get_by_role("option", name=option, exact=True).click()


def fill(page: Any, box: str, value: object) -> None:
    page.fill(f"#{box} input[type=number]", str(value))
    page.keyboard.press("Tab")


def upload(page: Any, path: Path) -> None:
    page.set_input_files("#upload input[type=file]", str(path))


def tiny_settings(page: Any, tiny: Path) -> None:
    choose(page, "model", str(tiny))
    fill(page, "samples", 4)
    fill(page, "steps", 3)


def restored(page: Any) -> None:
    page.click("#restore")
    page.wait_for_selector("#guarantee .certes-box")
    page.wait_for_selector("#map img")


def click_map(page: Any, x: float, y: float) -> None:
    """At a share of the width and the height of the map."""
    box = page.locator("#map img").bounding_box()
    side = min(box["width"], box["height"])  # the picture is fitted into its frame
    left, top = (box["width"] - side) / 2, (box["height"] - side) / 2
    page.locator("#map img").click(position={"x": left + x * side, "y": top + y * side})


def shown_pictures(page: Any) -> list[str]:
    return page.eval_on_selector_all("#slider img, #map img", "all => all.map(e => e.src)")


def complaint(page: Any) -> str:
    page.wait_for_selector("#message .certes-error")
    return page.inner_text("#message .certes-error")


def status(url: str, cookie: str | None = None) -> int:
    headers = {} if cookie is None else {"Cookie": f"certes={cookie}"}
    try:
        with urlopen(Request(url, headers=headers)) as answer:
            return answer.status
    except HTTPError as error:
        return error.code


def cookie_of(page: Any) -> str:
    (value,) = [c["value"] for c in page.context.cookies() if c["name"] == "certes"]
    return value


def test_from_a_picture_to_a_pixel_a_region_and_files(
    opened: Open, tiny: Path, tmp_path: Path
) -> None:
    page = opened()
    choose(page, "bundled", "nuclei 6")
    page.wait_for_selector("#thumbnail img")
    assert page.input_value("#noise textarea, #noise input") == "0.1"
    tiny_settings(page, tiny)
    fill(page, "steps", 12)
    page.click("#restore")
    page.wait_for_selector("#preview img")  # the estimate, before it is finished
    page.wait_for_selector("#map img")
    assert NO_GUARANTEE in page.inner_text("#guarantee")
    assert "PSNR" in page.inner_text("#summary")
    assert page.locator("#slider img").count() == 2
    assert "image units" in page.inner_text("#bar")

    click_map(page, 0.25, 0.75)
    page.wait_for_selector("#pixel svg")
    said = page.inner_text("#pixel b >> nth=0")
    x, y = (int(word) for word in said.replace(",", "").split() if word.isdigit())
    assert abs(x - 64) <= 2
    assert abs(y - 192) <= 2
    page.get_by_label("a region: two clicks").check()
    click_map(page, 0.25, 0.25)
    page.wait_for_selector("#region >> text=One corner")
    click_map(page, 0.5, 0.375)
    page.wait_for_selector("#region svg")
    corners = [int(page.input_value(f"#{name} input")) for name in ("x0", "y0", "x1", "y1")]
    assert corners == pytest.approx([64, 64, 128, 96], abs=2)
    fill(page, "x1", 200)
    page.click("#ask")
    page.wait_for_selector("#region >> text=to 200,")

    check_downloads(page, tmp_path)
    assert {urlsplit(url).hostname for url in page.asked if url.startswith("http")} == {"127.0.0.1"}
    assert len(page.asked) > 10  # the log does hear of requests


def check_downloads(page: Any, folder: Path) -> None:
    files = {}
    for name in ("intervals", "panel", "report"):
        with page.expect_download() as waiting:
            page.click(f"#get-{name}")
        files[name] = folder / waiting.value.suggested_filename
        waiting.value.save_as(files[name])
    assert is_tiff(files["intervals"])
    from tifffile import imread

    assert imread(files["intervals"]).shape[0] == 3
    assert read_picture(files["panel"]).pixels.shape[0] == 3
    report = json.loads(files["report"].read_text())
    assert report["samples" if "samples" in report else "settings"]["samples"] == 4
    assert report["guarantee"] is None


def test_a_bad_upload_gets_one_line_and_the_page_goes_on(
    opened: Open, tmp_path: Path, tiny: Path
) -> None:
    page = opened()
    bad = tmp_path / "<b>bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(200)))
    upload(page, bad)
    said = complaint(page)
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) == 2  # its title, and one line
    assert str(tmp_path) not in said
    assert page.locator("#message .certes-error b").count() == 1  # its title; names are no HTML
    page.click("#restore")
    page.wait_for_selector("#message >> text=none yet")
    large = tmp_path / "large.png"
    Image.new("L", (300, 300)).save(large)
    upload(page, large)
    page.wait_for_selector("#message >> text=300 x 300 pixels, this page takes 70000")
    upload(page, grey(tmp_path / "good.png"))
    page.wait_for_selector("#thumbnail img")
    assert page.inner_text("#message").strip() == ""
    tiny_settings(page, tiny)
    restored(page)


def test_two_users_see_only_their_own(
    opened: Open, server: Server, tmp_path: Path, tiny: Path
) -> None:
    pages = [opened(), opened()]
    for i, page in enumerate(pages):
        upload(page, grey(tmp_path / f"user-{i}.png", i))
        page.wait_for_selector("#thumbnail img")
        tiny_settings(page, tiny)
    for page in pages:  # at once: the second waits for the first
        page.click("#restore")
    for page in pages:
        page.wait_for_selector("#map img")
    texts = [page.inner_text("body") for page in pages]
    for i in range(2):
        assert f"user-{i}.png" in texts[i]
        assert f"user-{1 - i}.png" not in texts[i]
    mine, yours = (shown_pictures(page) for page in pages)
    assert len(mine) == len(yours) == 3
    assert not set(mine) & set(yours)
    cookies = [cookie_of(page) for page in pages]
    for url in mine:
        assert status(url, cookies[0]) == 200
        assert status(url, cookies[1]) == 403
        assert status(url) == 403
    for path in server.files():  # whatever path the other may guess
        allowed = [status(f"{server.address}gradio_api/file={path}", c) == 200 for c in cookies]
        assert sum(allowed) <= 1


def test_what_a_closed_tab_had_is_removed(opened: Open, server: Server, tmp_path: Path) -> None:
    page = opened()
    upload(page, grey(tmp_path / "closing.png"))
    page.wait_for_selector("#thumbnail img")
    assert any(path.name == "closing.png" for path in server.files())
    page.close()
    other = opened()
    for _ in range(50):
        if not any(path.name == "closing.png" for path in server.files()):
            break
        other.wait_for_timeout(200)
    assert not any(path.name == "closing.png" for path in server.files())


def test_told_to_end_it_leaves_no_file(tmp_path: Path, tiny: Path) -> None:
    pytest.importorskip("gradio", reason="the extra web is not installed")
    running = started(tmp_path, "--model", str(tiny))
    assert list(tmp_path.iterdir())
    printed = ended(running)
    assert running.process.returncode == 128 + 15
    assert "Traceback" not in printed
    assert list(tmp_path.iterdir()) == []


def test_a_taken_port_gets_one_line(server: Server) -> None:
    port = str(urlsplit(server.address).port)
    command = [sys.executable, "-m", "certes", "serve", "--port", port]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"port: {port}" in done.stderr


def test_without_the_extra_one_line_says_what_to_install(tmp_path: Path) -> None:
    hiding = "import sys; sys.modules['gradio'] = None; from certes.apps.cli import main; main()"
    command = [sys.executable, "-c", hiding, "serve", "--port", str(free_port())]
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install 'certes[web]'" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif("CERTES_SCREENSHOTS" not in os.environ, reason="CERTES_SCREENSHOTS is not set")
def test_pictures_for_the_documentation(browser: Any, tmp_path: Path) -> None:
    usual = started(tmp_path)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(10 * WAIT)
    page.goto(usual.address)
    pixels = bundled_pictures()[5].pixels[:, 80:176, 112:208]
    upload(page, save(tmp_path / "cells.png", pixels))
    page.wait_for_selector("#thumbnail img")
    page.check("#degrade input")
    page.wait_for_function("document.querySelector('#noise textarea, #noise input').value == '0.1'")
    page.click("#restore")
    page.wait_for_selector("#preview img")
    shoot(page, "restoring")
    page.wait_for_selector("#map img")
    assert "With probability at least" in page.inner_text("#guarantee")
    click_map(page, 0.43, 0.4)
    page.wait_for_selector("#pixel svg")
    page.get_by_label("a region: two clicks").check()
    click_map(page, 0.6, 0.3)
    page.wait_for_selector("#region >> text=One corner")
    click_map(page, 0.72, 0.44)
    page.wait_for_selector("#region svg")
    shoot(page, "result")
    page.set_viewport_size({"width": 390, "height": 844})
    shoot(page, "phone")
    page.close()
    ended(usual)


def shoot(page: Any, name: str) -> None:
    page.wait_for_timeout(1000)  # for pictures to be drawn
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png", full_page=True)
