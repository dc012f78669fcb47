"""Between the browser and gradio: who is asking, and which files he may have.

gradio serves any file in its cache to whoever names it. Here a file goes only to the browser that
it was made for, and the page fetches nothing from elsewhere.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any

from certes.apps.web.desks import Desks
from certes.errors import InputError

COOKIE = "certes"
_OWNER = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"/(?:file=|file/|static_file=)(.*)", re.DOTALL)
_NEVER = re.compile(r"/(?:proxy=|stream/|deep_link|monitoring)")
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "frame-ancestors 'self'; form-action 'self'; base-uri 'self'"
)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


def owner_of(cookies: str | None) -> str | None:
    """The browser that a ``Cookie`` header tells of, None if it tells of none."""
    try:
        morsel = SimpleCookie(cookies or "").get(COOKIE)
    except CookieError:
        return None
    value = "" if morsel is None else morsel.value
    return value if _OWNER.fullmatch(value) else None


def fetch_nothing() -> None:
    """Have gradio fetch no address that a request names in place of a file, public ones neither.

    The page never names one; a request that somebody made by hand may.
    """
    from gradio import processing_utils

    async def refused(url: str) -> Any:
        raise InputError("a file is wanted, not an address: nothing is fetched here")

    processing_utils.async_ssrf_protected_get = refused


class Guard:
    """ASGI middleware.

    Args:
        app: gradio's.
        desks: whose files are whose.
    """

    def __init__(self, app: App, desks: Desks) -> None:
        self._app = app
        self._desks = desks

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        owner = owner_of(_header(scope, b"cookie"))
        if not self._allowed(scope["path"], owner):
            await _refuse(send)
            return
        fresh = secrets.token_hex(32) if owner is None else None
        await self._app(scope, receive, _marked(send, fresh, scope.get("scheme") == "https"))

    def _allowed(self, path: str, owner: str | None) -> bool:
        if _NEVER.search(path):
            return False
        file = _FILE.search(path)
        return file is None or (owner is not None and self._desks.may_fetch(owner, file[1]))


def _header(scope: Message, name: bytes) -> str | None:
    return next((v.decode("latin-1") for k, v in scope["headers"] if k == name), None)


def _marked(send: Send, owner: str | None, secure: bool) -> Send:
    """Tells browsers to load nothing from elsewhere, and a new one who it is."""

    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", []), (b"content-security-policy", _POLICY.encode())]
            if owner is not None:
                rest = "; Path=/; HttpOnly; SameSite=Strict" + ("; Secure" if secure else "")
                headers.append((b"set-cookie", f"{COOKIE}={owner}{rest}".encode()))
            message["headers"] = headers
        await send(message)

    return marked


async def _refuse(send: Send) -> None:
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": b"not yours, or not here"})
