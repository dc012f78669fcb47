"""The page of commands, written from the program itself whenever the site is built."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

MARK = "<!-- commands -->"


def command_reference() -> str:
    """Every command with its usage, help, options and example, as Markdown."""
    from typer.main import get_command

    from certes.apps.cli import app

    program: Any = get_command(app)
    context = program.make_context("certes", [], resilient_parsing=True)
    return "\n\n".join(_sections(program, context))


def _sections(group: Any, context: Any) -> Iterator[str]:
    for name, command in group.commands.items():
        inner = command.make_context(name, [], parent=context, resilient_parsing=True)
        if hasattr(command, "commands"):
            yield from _sections(command, inner)
        else:
            yield _section(command, inner)


def _section(command: Any, context: Any) -> str:
    path = context.command_path
    parts = [f"## {path}", _paragraphs(command.help or "")]
    parts.append(f"```text\n{_one_line(command.get_usage(context).removeprefix('Usage: '))}\n```")
    records = [record for p in command.params if (record := p.get_help_record(context))]
    parts += ["\n".join(_described(*record) for record in records)]
    if command.epilog:
        parts.append(_example(command.epilog))
    return "\n\n".join(part for part in parts if part)


def _described(names: str, text: str) -> str:
    return f"`{_one_line(names)}`\n:   {_escaped(_one_line(text))}\n"


def _example(epilog: str) -> str:
    """``Examples: a; b`` as lines of a shell."""
    said = re.sub(r"^Examples?: ", "", _one_line(epilog))
    return "```sh\n" + said.replace("; ", "\n") + "\n```"


def _paragraphs(text: str) -> str:
    return "\n\n".join(_escaped(_one_line(part)) for part in re.split(r"\n\s*\n", text))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _escaped(text: str) -> str:
    """Text in which nothing is taken for a tag or a link."""
    return re.sub(r"([<\[\]*_])", r"\\\1", text)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs with every page's source."""
    return markdown.replace(MARK, command_reference()) if MARK in markdown else markdown
