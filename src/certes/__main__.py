"""``python -m certes``: the command line program."""

from __future__ import annotations

from certes.apps.cli import main

if __name__ == "__main__":
    main()
