"""Who may fetch what, through the ASGI middleware alone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from certes.apps.web.desks import Desks
from certes.apps.web.guard import Guard, fetch_nothing, owner_of
from certes.apps.web.limits import Limits
from certes.errors import InputError

MINE, YOURS = "a" * 64, "b" * 64


async def _gradio(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"served"})


def ask(app: Any, path: str, owner: str | None) -> tuple[int, dict[bytes, bytes]]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [] if owner is None else [(b"cookie", f"other=1; certes={owner}".encode())]
    asyncio.run(app({"type": "http", "path": path, "headers": headers}, None, send))
    return sent[0]["status"], dict(sent[0]["headers"])


@pytest.fixture
def desks(tmp_path: Path) -> Desks:
    return Desks(tmp_path, Limits(10, 1, 1))


@pytest.mark.parametrize("way", ["/gradio_api/file=", "/file=", "/gradio_api/file/", "/x/file="])
def test_files_go_to_their_owner_only(desks: Desks, way: str) -> None:
    file = desks.of(MINE, "tab").folder / "picture.png"
    file.write_bytes(b"x")
    guard = Guard(_gradio, desks)
    assert ask(guard, f"{way}{file}", MINE)[0] == 200
    desks.of(YOURS, "tab")
    for stranger in (YOURS, None, "nonsense"):
        assert ask(guard, f"{way}{file}", stranger)[0] == 403
        assert ask(_gradio, f"{way}{file}", stranger)[0] == 200  # without the guard it is served
    assert ask(guard, f"{way}/etc/passwd", MINE)[0] == 403
    assert ask(guard, f"{way}https://example.org/a.png", MINE)[0] == 403


def test_nothing_is_fetched_for_anybody(desks: Desks) -> None:
    for path in ("/gradio_api/proxy=https://example.org", "/monitoring", "/gradio_api/stream/a/b"):
        assert ask(Guard(_gradio, desks), path, MINE)[0] == 403


def test_an_address_in_place_of_a_file_is_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    gradio = pytest.importorskip("gradio")
    asked: list[str] = []

    async def get(url: str, **_: object) -> object:
        asked.append(url)
        raise OSError("no network")

    fetcher = "async_ssrf_protected_get"
    monkeypatch.setattr(gradio.processing_utils.sh, "get", get)
    monkeypatch.setattr(
        gradio.processing_utils, fetcher, getattr(gradio.processing_utils, fetcher)
    )  # undone at the end
    picture, address = gradio.Image(), "https://example.org/a.png"
    with pytest.raises(OSError, match="no network"):  # gradio alone would
        asyncio.run(picture.async_move_resource_to_block_cache(address))
    fetch_nothing()
    with pytest.raises(InputError, match="nothing is fetched"):
        asyncio.run(picture.async_move_resource_to_block_cache(address))
    assert asked == [address]


def test_a_new_browser_gets_a_cookie_and_a_known_one_none(desks: Desks) -> None:
    _, headers = ask(Guard(_gradio, desks), "/", None)
    cookie = headers[b"set-cookie"].decode()
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    owner = owner_of(cookie.split(";")[0])
    assert owner is not None
    assert b"set-cookie" not in ask(Guard(_gradio, desks), "/", owner)[1]
    assert owner_of(None) is owner_of("certes=../../etc") is owner_of("certes=" + "A" * 64) is None
    assert owner_of(ask(Guard(_gradio, desks), "/", None)[1][b"set-cookie"].decode()) != owner


def test_pages_may_load_nothing_from_elsewhere(desks: Desks) -> None:
    policy = ask(Guard(_gradio, desks), "/", None)[1][b"content-security-policy"].decode()
    assert "http" not in policy
    assert policy.startswith("default-src 'self'")
