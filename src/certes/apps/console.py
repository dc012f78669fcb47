"""What commands say: results on stdout, everything else (progress, errors) on stderr."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

_FILE_WIDTH = 160

Advance = Callable[[float], None]


def say(text: str) -> None:
    """Print a line of the result."""
    typer.echo(text)


def note(text: str) -> None:
    """Print a line beside the result, on stderr."""
    typer.echo(text, err=True)


def complain(text: str) -> None:
    """Print an error as one line, on stderr."""
    note("error: " + " ".join(text.split()))


def complain_about(path: Path, error: Exception) -> str:
    """Print what is wrong with a file, which the line names; returns the line."""
    text = str(error)
    line = text if str(path) in text else f"{path}: {text}"
    complain(line)
    return line


def show_json(content: Any) -> None:
    """Print the one JSON object of a command run with ``--json``."""
    typer.echo(json.dumps(content, indent=2, allow_nan=False))


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> None:
    """Print a table; its first columns hold words, the others numbers."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i < words else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        # A file or a pipe has no width: nothing is folded that a reader would have to unfold.
        console.width = _FILE_WIDTH
    console.print(table)


def number(value: float | None, digits: int = 3) -> str:
    """A number for a table; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


@contextmanager
def progress(what: str, total: float | None) -> Generator[Advance, None, None]:
    """Show a progress bar with the time left on stderr, where that is a terminal.

    Yields the function to call with the amount of work done since the last call. Without a total
    the bar only shows that work goes on.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bars:
        bar = bars.add_task(what, total=total)
        yield lambda amount: bars.advance(bar, amount)
