"""Which pictures are meant."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from certes.apps.batch.places import Place
from certes.apps.outputs import check_names
from certes.data.measurements import SUFFIX
from certes.data.pictures import SUFFIXES
from certes.errors import InputError


@dataclass(frozen=True)
class Entry:
    """A picture to be restored.

    Args:
        name: its file's name without folder and suffix; its results are named by it.
        uri: where it is.
        version: what tells it from another file of that name: size and time, or what a store says.
    """

    name: str
    uri: str
    version: str


def pictures_at(uri: str) -> list[Entry]:
    """The pictures in a folder, matching a glob, or the one that is named, sorted by name.

    Raises: InputError where there is none, or two would have results of one name.
    """
    place = Place(uri)
    files, root = place.files, place.root
    if files.isdir(root):  # first: a folder may be named like a glob
        found = {entry["name"]: entry for entry in files.ls(root, detail=True)}
    elif files.exists(root):
        found = {root: files.info(root)}
    elif any(sign in root for sign in "*?["):
        found = files.glob(root, detail=True)
    else:
        raise InputError(f"{uri}: no such folder or picture")
    wanted = {*SUFFIXES, SUFFIX}
    entries = [
        Entry(_name(path), str(files.unstrip_protocol(path)), _version(info))
        for path, info in sorted(found.items())
        if info["type"] == "file" and PurePosixPath(path).suffix.lower() in wanted
    ]
    entries = [entry for entry in entries if not entry.name.startswith(".")]
    if not entries:
        raise InputError(f"{uri}: no pictures there: wanted {', '.join(sorted(wanted))}")
    check_names(uri, [entry.name for entry in entries])
    return entries


def _name(path: str) -> str:
    return PurePosixPath(path).stem


def _version(info: dict[str, Any]) -> str:
    told = (info.get(key) for key in ("size", "mtime", "created", "LastModified", "ETag", "etag"))
    return " ".join(str(one) for one in told if one is not None)
