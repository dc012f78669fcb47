"""Folders on a disk or in an object store, by path or URI (fsspec knows which)."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import fsspec  # pyright: ignore[reportMissingTypeStubs]

from certes.data.files import atomic_path
from certes.errors import InputError


@dataclass(frozen=True)
class Place:
    """A folder.

    Args:
        uri: as its user wrote it.
    """

    uri: str

    @property
    def files(self) -> Any:
        """Its file system.

        Raises: InputError for one that nobody here knows.
        """
        return _located(self.uri)[0]

    @property
    def root(self) -> str:
        """Its path there."""
        return _located(self.uri)[1].rstrip("/")

    @property
    def local(self) -> Path | None:
        """Itself as a path, if it is on a disk of this machine."""
        return Path(self.root or "/") if _is_local(self.files) else None

    def path(self, name: str) -> str:
        """The path of a file in it."""
        return f"{self.root}/{name}"

    def names(self, folder: str) -> list[str]:
        """The files in a folder in it, sorted; none if there is no such folder."""
        files = self.files
        files.invalidate_cache()
        if not files.isdir(self.path(folder)):
            return []
        return sorted(Path(str(path)).name for path in files.ls(self.path(folder), detail=False))

    def read(self, name: str) -> bytes | None:
        """What is in a file; None if there is none."""
        try:
            return cast(bytes, self.files.cat_file(self.path(name)))
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Replace a file, at once.

        Raises: OSError when it cannot be written.
        """
        if self.local is None:
            self.files.pipe_file(self.path(name), content)
            return
        with atomic_path(self.local / name) as path:
            path.write_bytes(content)

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all that is in it, if there is one."""
        if self.files.exists(self.path(name)):
            self.files.rm(self.path(name), recursive=True)

    def mark(self, name: str, content: bytes) -> None:
        """Write a file of no lasting value, as soon as may be."""
        self.files.makedirs(self.path(name).rpartition("/")[0], exist_ok=True)
        self.files.pipe_file(self.path(name), content)

    def save(self, write: Callable[[Path], None]) -> None:
        """Keep the files that `write` makes in the folder that it is given.

        To object stores they are sent one after the other: who reads them asks the manifest which
        are whole.

        Raises: OSError when they cannot be written.
        """
        if self.local is not None:
            write(self.local)
            return
        with tempfile.TemporaryDirectory(prefix="certes-") as name:
            write(Path(name))
            for file in sorted(Path(name).iterdir()):
                self.files.put_file(str(file), self.path(file.name))


@contextmanager
def fetched(uri: str) -> Generator[Path, None, None]:
    """Yield a local path of a file; what had to be fetched is removed at the end.

    Raises: InputError for a file system that nobody here knows; OSError when it cannot be had.
    """
    files, path = _located(uri)
    if _is_local(files):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="certes-") as folder:
        local = Path(folder) / Path(path).name
        with files.open(path, "rb") as source, local.open("wb") as target:
            shutil.copyfileobj(source, target)
        yield local


def _located(uri: str) -> tuple[Any, str]:
    try:
        return fsspec.core.url_to_fs(uri)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType, reportReturnType]
    except (ValueError, ImportError) as error:
        raise InputError(f"{uri}: {error}; give a path, or a URI that fsspec knows") from error


def _is_local(files: Any) -> bool:
    return "file" in ([files.protocol] if isinstance(files.protocol, str) else files.protocol)
