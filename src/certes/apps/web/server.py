"""Starting the page, and leaving nothing behind.

All files are in one hidden folder of the system's temporary one; it goes when the server ends, and
where that was killed, when the next one starts.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from certes.apps.extras import need
from certes.apps.web.desks import Desks
from certes.apps.web.limits import Limits
from certes.apps.web.memory import few_pools
from certes.data.files import scratch_folder
from certes.errors import InputError
from certes.networks.model import kind_of

LOOPBACK = ("127.0.0.1", "::1", "localhost")
_QUEUE = 20
_TIDY, _STALE = 30.0, 60.0  # seconds
DESKS = "desks"


@dataclass(frozen=True)
class Place:
    """Where the page is.

    Args:
        host: the address that is listened at.
        port: the port.
    """

    host: str
    port: int

    def check(self) -> None:
        """Refuse a place that cannot be had.

        Raises: InputError.
        """
        try:
            family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((self.host, self.port))
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(
                f"port: {self.port} at {self.host} cannot be had ({reason}): give another --port "
                "or --host"
            ) from error


@contextmanager
def serving(place: Place, limits: Limits, models: tuple[str, ...]) -> Generator[str, None, None]:
    """Serve the page while the block runs; yields its address.

    Raises: InputError when the extra is not installed or the place taken, ModelError for a model
        that there is none of.
    """
    need("web", "gradio")
    for model in models:
        kind_of(model)
    place.check()
    few_pools()
    with scratch_folder(Path(tempfile.gettempdir())) as root:
        page, desks, guard = _built(root, limits, models)
        over = threading.Event()
        tidying = threading.Thread(target=_tidy, args=(desks, root, over), daemon=True)
        tidying.start()
        try:
            yield _launched(page, place, limits, guard)
        finally:
            over.set()
            page.close(verbose=False)


def _built(root: Path, limits: Limits, models: tuple[str, ...]) -> tuple[Any, Desks, Any]:
    # Said before gradio is imported, which reads it once: where its files go, and that it is not
    # to tell anybody of us.
    os.environ["GRADIO_TEMP_DIR"] = str(root)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    from starlette.middleware import Middleware

    from certes.apps.web.guard import Guard, fetch_nothing
    from certes.apps.web.handlers import Handlers
    from certes.apps.web.page import build_page

    fetch_nothing()
    desks = Desks(root / DESKS, limits)
    page = build_page(Handlers(desks, limits, models), limits, models)
    return page, desks, Middleware(cast(Any, Guard), desks=desks)


def _launched(page: Any, place: Place, limits: Limits, guard: Any) -> str:
    from certes.apps.web.style import CSS, theme

    page.queue(max_size=_QUEUE, default_concurrency_limit=1, api_open=False)
    page.launch(
        server_name=place.host,
        server_port=place.port,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        show_error=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        footer_links=[],
        max_file_size=limits.upload,
        state_session_capacity=limits.desks,
        app_kwargs={"middleware": [guard], "docs_url": None, "redoc_url": None},
        theme=theme(),
        css=CSS,
    )
    return f"http://{place.host}:{place.port}/"


def _tidy(desks: Desks, root: Path, over: threading.Event) -> None:
    while not over.wait(_TIDY):
        desks.tidy()
        remove_strays(root, _STALE)


def remove_strays(root: Path, age: float) -> None:
    """Remove uploads that nobody took, and what gradio forgets beside those that somebody did.

    Args:
        root: where gradio puts uploads; the folder of desks in it is left alone.
        age: seconds since anything was written to them.
    """
    for path in root.iterdir():
        with suppress(FileNotFoundError):  # it was taken just now
            if path.name != DESKS and time.time() - path.stat().st_mtime > age:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
