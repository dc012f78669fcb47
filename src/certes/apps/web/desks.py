"""What a user has before him: one picture, what became of it, and a folder for their files.

A desk belongs to one browser (a cookie that no script can read says which) and to one tab of it.
Its folder has a name that cannot be guessed, and `Desks.may_fetch` tells whose files are whose.
"""

from __future__ import annotations

import secrets
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, RLock
from typing import Any

from certes.apps.web.limits import Limits
from certes.data.pictures import Picture
from certes.errors import InputError

Key = tuple[str, str]
"""A browser, and a tab of it."""


@dataclass
class Desk:
    """What one tab shows.

    Args:
        owner: whose it is.
        folder: where its files are.
        picture: what was picked, read.
        path: its file.
        mask: of an inpainting, a file.
        result: of the latest restoration.
        corner: the first of two clicks, (x, y).
        unwanted: set to stop the restoration that runs.
        forgotten: whether its user is gone.
        used: when it was last asked for, on the monotonic clock.
    """

    owner: str
    folder: Path
    picture: Picture | None = None
    path: Path | None = None
    mask: Path | None = None
    result: Any = None
    corner: tuple[int, int] | None = None
    unwanted: Event = field(default_factory=Event)
    forgotten: bool = False
    used: float = field(default_factory=time.monotonic)

    def new_folder(self) -> Path:
        """A fresh folder for the files of one restoration; those of the last one are gone."""
        for old in self.folder.glob("run-*"):
            shutil.rmtree(old, ignore_errors=True)
        folder = self.folder / f"run-{secrets.token_hex(8)}"
        folder.mkdir()
        return folder

    def part(self, name: str) -> Path:
        """An empty part of the desk."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def take(self, upload: Path, name: str) -> Path:
        """Move a file that was uploaded to a part of the desk.

        Raises: InputError when it is there no more.
        """
        kept = self.part(name) / upload.name
        try:
            shutil.move(upload, kept)
        except FileNotFoundError as error:
            raise InputError(f"{upload.name}: the upload is gone; upload it again") from error
        return kept


class Desks:
    """All desks.

    Args:
        root: their folder.
        limits: how many there may be, and how long one is kept.
    """

    def __init__(self, root: Path, limits: Limits) -> None:
        self._root = root
        self._limits = limits
        self._desks: dict[Key, Desk] = {}
        self._lock = RLock()
        root.mkdir(parents=True, exist_ok=True)

    def __len__(self) -> int:
        return len(self._desks)

    def of(self, owner: str, tab: str) -> Desk:
        """The desk of a tab, a new one if need be."""
        with self._lock:
            self.tidy()
            desk = self._desks.pop((owner, tab), None) or self._new(owner)
            desk.used = time.monotonic()
            self._desks[owner, tab] = desk  # the last is whoever was here last
            while len(self._desks) > self._limits.desks:
                self._forget(next(iter(self._desks)))
            return desk

    def make_room(self) -> None:
        """Let go of the results of whoever was away longest, until all fit in memory."""
        with self._lock:
            full = [desk for desk in self._desks.values() if desk.result is not None]
            held = sum(desk.result.nbytes for desk in full)
            for desk in full[:-1]:
                if held <= self._limits.memory:
                    return
                held -= desk.result.nbytes
                desk.result = None

    def clear(self, owner: str, tab: str) -> None:
        """Forget what a tab had, and remove its files."""
        with self._lock:
            if (owner, tab) in self._desks:
                self._forget((owner, tab))

    def tidy(self) -> None:
        """Forget who has been away for too long."""
        with self._lock:
            now = time.monotonic()
            for key, desk in list(self._desks.items()):
                if now - desk.used > self._limits.keep:
                    self._forget(key)

    def may_fetch(self, owner: str, path: str) -> bool:
        """Whether a file is one of this browser's own."""
        wanted = Path(path).resolve()
        with self._lock:
            mine = [desk.folder for desk in self._desks.values() if desk.owner == owner]
        return any(wanted.is_relative_to(folder) for folder in mine)

    def _new(self, owner: str) -> Desk:
        folder = (self._root / secrets.token_hex(16)).resolve()
        folder.mkdir(mode=0o700)
        return Desk(owner, folder)

    def _forget(self, key: Key) -> None:
        desk = self._desks.pop(key)
        desk.forgotten = True
        desk.unwanted.set()
        shutil.rmtree(desk.folder, ignore_errors=True)
