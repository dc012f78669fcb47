"""What is checked of the documentation: names of the code in its pages, and what was built of them.

Sources are read, never imported.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_FENCED = re.compile(r"^( *)(`{3,}|~{3,}).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_PATH = re.compile(r"(?:src|tests|benchmarks|docs|examples)/[\w./-]*\w\.\w+")
_NAME = re.compile(r"certes(?:\.\w+)+")
_FILES = {"certes.json"}
_LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
_WHOLE_LINKS = {"canonical", "next", "prev"}  # of <link>: pages, not something to load
_CSS_URL = re.compile(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)")


def pages() -> list[Path]:
    """The sources of the site."""
    return sorted(path for path in DOCS.rglob("*.md"))


def spans(text: str) -> Iterator[str]:
    """Code within the lines of a page; blocks of code do not count."""
    for found in _SPAN.finditer(_FENCED.sub("", text)):
        yield found[1]


def wrong_names(text: str, root: Path = ROOT) -> list[str]:
    """What a page names in code spans and is not there: files, and modules and what is in them."""
    return [span for span in spans(text) if not _is_there(span, root)]


def _is_there(span: str, root: Path) -> bool:
    if path := _PATH.match(span):
        file, inner = root / path[0], span[path.end() :]
        if not inner.startswith("::"):
            return file.exists()
        name = re.match(r"::(\w+)", inner)
        return file.exists() and name is not None and name[1] in _members(file)
    name = _NAME.match(span)
    if name is None or name[0] in _FILES:
        return True
    return resolves(name[0], root)


def resolves(name: str, root: Path = ROOT) -> bool:
    """Whether `certes.x.y` is a module, or something in one, members of classes included."""
    parts, folder = name.split("."), root / "src"
    for count in range(len(parts), 0, -1):
        base = folder.joinpath(*parts[:count])
        module = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        if module.is_file():
            return _found(module, parts[count:], root)
    return False


def _found(module: Path, rest: list[str], root: Path) -> bool:
    if not rest:
        return True
    members = _members(module)
    if rest[0] not in members:
        return False
    node = members[rest[0]]
    if isinstance(node, ast.ImportFrom):
        source = next(a.name for a in node.names if (a.asname or a.name) == rest[0])
        return resolves(".".join([str(node.module), source, *rest[1:]]), root)
    if len(rest) == 1:
        return True
    return isinstance(node, ast.ClassDef) and rest[1] in _names(node.body)


@cache
def _members(module: Path) -> dict[str, ast.stmt]:
    """What a module defines, assigns or imports, also under TYPE_CHECKING."""
    return _names(ast.parse(module.read_text(encoding="utf-8")).body)


def _names(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    found: dict[str, ast.stmt] = {}
    for node in body:
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                found[node.name] = node
            case ast.Assign():
                found |= {t.id: node for t in node.targets if isinstance(t, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                found[name] = node
            case ast.ImportFrom():
                found |= {(alias.asname or alias.name): node for alias in node.names}
            case ast.If():
                found |= _names(node.body)
            case _:
                pass
    return found


class _Page(HTMLParser):
    """Anchors, links and loaded resources of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        self.anchors |= {given[key] for key in ("id", "name") if key in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        key = _LOADED.get(tag)
        if key in given and given.get("rel", "") not in _WHOLE_LINKS:
            self.loaded.append(given[key])
        if "style" in given:
            self.loaded += _css(given["style"])


def read(path: Path) -> _Page:
    """A page of the built site."""
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def broken_links(site: Path) -> list[str]:
    """Links within the built site that lead nowhere, and files that are loaded and missing."""
    built = {path.resolve(): read(path) for path in site.rglob("*.html")}
    wrong: list[str] = []
    for path, page in built.items():
        if path.name == "404.html":  # its addresses are those of a server's root
            continue
        for link in [*page.links, *page.loaded]:
            address = urlsplit(link)
            if address.scheme or address.netloc:
                continue
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            missing = target not in built and not target.is_file()
            lost = (
                address.fragment
                and target in built
                and (unquote(address.fragment) not in built[target].anchors)
            )
            if missing or lost:
                wrong.append(f"{path.name}: {link}")
    return wrong


def external_resources(site: Path) -> list[str]:
    """What the built site would fetch from elsewhere: scripts, styles, pictures, fonts."""
    wrong = [
        f"{path.name}: {what}"
        for path in site.rglob("*.html")
        for what in read(path).loaded
        if _elsewhere(what)
    ]
    for path in site.rglob("*.css"):
        wrong += [f"{path.name}: {url}" for url in _css(path.read_text("utf-8")) if _elsewhere(url)]
    return wrong


def _css(text: str) -> list[str]:
    return [a or b for a, b in _CSS_URL.findall(text)]


def _elsewhere(url: str) -> bool:
    return urlsplit(url).scheme in ("http", "https") or url.startswith("//")
