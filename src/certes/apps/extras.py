"""What is installed only if it is asked for; nothing here imports it."""

from __future__ import annotations

from importlib.util import find_spec

from certes.errors import InputError


def need(extra: str, *packages: str) -> None:
    """Refuse to go on without the packages of an extra.

    Args:
        extra: its name, as in ``certes[web]``.
        packages: what will be imported of it.

    Raises: InputError naming what is missing, and how to get it.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise InputError(
            f"{', '.join(missing)}: not installed, but needed for this: pip install "
            f"'certes[{extra}]'"
        )
