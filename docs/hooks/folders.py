"""Navigation entries that name a folder (``Title: folder/``) stand for the pages in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def pages_in(docs: Path, folder: str) -> list[str]:
    """The pages of a folder, its index first, the others by name."""
    names = sorted(path.name for path in (docs / folder).glob("*.md"))
    return [f"{folder}{name}" for name in sorted(names, key=lambda name: name != "index.md")]


def on_config(config: Any, **_: Any) -> Any:
    """Called by mkdocs once the configuration is read."""
    docs = Path(config["docs_dir"])
    for entry in config["nav"] or []:
        for title, what in entry.items():
            if isinstance(what, str) and what.endswith("/"):
                entry[title] = pages_in(docs, what)
    return config
