"""Docstrings of the sources as Markdown: their mathematics and references are Sphinx roles."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

_BLOCK = re.compile(
    r"^(?P<indent>[ ]*)\.\. (?P<kind>math|code-block)::[ ]*(?P<first>[^\n]*)\n"
    r"(?P<rest>(?:(?P=indent)[ ]+[^\n]*\n|[ ]*\n)*)",
    re.MULTILINE,
)
_MATH = re.compile(r":math:`(?P<tex>[^`]+)`")
_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|obj|exc):`(?P<short>~?)(?P<path>[^`]+)`")


def markdown(text: str) -> str:
    """A docstring with its roles and directives as Markdown and HTML."""
    text = _BLOCK.sub(_block, text if text.endswith("\n") else text + "\n").rstrip()
    text = _MATH.sub(lambda found: f"${_joined(found['tex'])}$", text)
    return _ROLE.sub(_reference, text)


def _block(found: re.Match[str]) -> str:
    indent, rest = found["indent"], textwrap.dedent(found["rest"]).strip("\n")
    if found["kind"] == "code-block":
        lines = ["```" + found["first"], rest, "```"]
    else:
        lines = ["", "$$", _aligned(f"{found['first']}\n{rest}".strip()), "$$", ""]
    return textwrap.indent("\n".join(lines), indent) + "\n"


def _aligned(tex: str) -> str:
    """Sphinx aligns lines at ``&`` by itself; TeX wants to be told. Blank lines part formulas."""
    tex = re.sub(r"\n\s*\n", r" \\qquad ", tex)
    if ("&" in tex or r"\\" in tex) and r"\begin" not in tex:
        return rf"\begin{{align*}} {tex} \end{{align*}}"
    return tex


def _joined(tex: str) -> str:
    return " ".join(tex.split())


def _reference(found: re.Match[str]) -> str:
    """A link if the thing has an entry somewhere, else its name."""
    path = " ".join(found["path"].split())
    shown = path.rsplit(".", 1)[-1] if found["short"] else path
    return f'<autoref identifier="{path}" optional><code>{shown}</code></autoref>'


class SphinxRoles(griffe.Extension):
    """Rewrites every docstring as it is read."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)
