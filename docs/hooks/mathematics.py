"""TeX in pages becomes MathML when the site is built: browsers draw it, no script is needed.

``pymdownx.arithmatex`` marks formulas; what it marked is converted here. TeX that the converter
does not know would be shown as it is, so it is a warning, which fails a strict build.
"""

from __future__ import annotations

import html
import logging
import re
from typing import Any

from latex2mathml.converter import convert

LOG = logging.getLogger("mkdocs.hooks.mathematics")

_MARKED = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<tex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL
)
# What the converter does not know, said in words that it does.
_SAID = {r"\arg": r"\operatorname{arg}"}
# A function's name and what it is applied to stand apart, unless an index or a bracket parts them.
_APPLIED = re.compile(r"(?<!<msub>)(?<!<msup>)(<mi>(?:ln|log|exp)</mi>)(?=<m(?:i|sub|sup|over)\b)")
_THIN = '<mspace width="0.167em"/>'


def mathml(tex: str, block: bool) -> str:
    """A formula as MathML.

    Raises:
        ValueError: for TeX that the converter does not know.
    """
    for unknown, known in _SAID.items():
        tex = re.sub(re.escape(unknown) + r"(?![A-Za-z])", lambda _, known=known: known, tex)
    try:
        made = convert(tex.strip(), display="block" if block else "inline")
    except Exception as error:  # the converter has no common kind of error
        raise ValueError(f"{tex.strip()!r}: {type(error).__name__}: {error}") from error
    if "\\" in made or "<mi>&</mi>" in made:
        raise ValueError(f"{tex.strip()!r}: not all of it is understood: {made}")
    return _APPLIED.sub(rf"\1{_THIN}", made)


def with_mathml(page: str, complain: Any = LOG.warning) -> str:
    """The HTML of a page, its formulas converted; `complain` is told of those that cannot be."""

    def replaced(found: re.Match[str]) -> str:
        tex, block = html.unescape(found["tex"]), found["tag"] == "div"
        try:
            made = mathml(tex, block)
        except ValueError as error:
            complain(str(error))
            return found[0]
        return f'<div class="formula">{made}</div>' if block else made

    return _MARKED.sub(replaced, page)


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Called by mkdocs with every page's HTML."""
    return with_mathml(html, lambda what: LOG.warning("%s: formula %s", page.file.src_uri, what))
