"""Writes the pages of the bundled models from their folders: ``python docs/hooks/models.py``.

A test compares the pages with what is written now.
"""

from __future__ import annotations

from pathlib import Path

PAGES = Path(__file__).parent.parent / "models"


def main() -> None:
    """Write all pages."""
    from certes.apps.jobs.models import pages
    from certes.data.files import write_text

    for name, text in pages().items():
        write_text(PAGES / f"{name}.md", text)


if __name__ == "__main__":
    main()
