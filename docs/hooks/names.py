"""Names of the code in pages (`certes.x.y` in code spans) become links to their entries."""

from __future__ import annotations

import re
from typing import Any

_NAME = re.compile(r"<code>(certes(?:\.\w+)+)</code>")


def linked(page: str) -> str:
    """The HTML of a page, its names marked as references; without an entry they stay names."""
    return _NAME.sub(r'<autoref identifier="\1" optional><code>\1</code></autoref>', page)


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Called by mkdocs with every page's HTML; the reference links its names itself."""
    return html if page.file.src_uri.startswith("api/") else linked(html)
