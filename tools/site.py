"""Hooks of mkdocs: one site of docs/ and of all in the project that documents link to.

A document links to files by their paths in the project. In the site, docs/ is at the top and
everything else below project/: documents as pages, other files as they are, folders as lists. What
docs/index.md lists is the navigation.
"""

from __future__ import annotations

import posixpath
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel

from tools.site_lists import indented_by_four

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=[)#])")
SECTION = re.compile(r"(?m)^\*\*(.+)\*\*$")
PAGE = re.compile(r"\[([^\]]+)\]\(([^)\s#]+\.md)\)")
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
"""What tests read."""
EMPTY_COMMENT = "<!-- -->"
"""Stays, or a command after a list would be a line of the list."""
CODE = re.compile(r"<pre.*?</pre>", re.DOTALL)
STRAY_COMMAND = re.compile(r"<(?:p|li)>\$ .*")
SHIM = ("assets/iframe-worker.js", "third_party/iframe-worker/shim.js")
"""By which the search works in pages that are opened as files; mkdocs.yml names it."""


def on_config(config: Any) -> Any:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    config.site_name = f"Romana {project['version']}"
    config.nav = navigation((ROOT / "docs" / "index.md").read_text())
    return config


def navigation(index: str) -> list[Any]:
    """The pages that it links to, by its sections."""
    start, *rest = SECTION.split(index)
    first = [{"Documents": "index.md"}, *_pages(start)]
    named = zip(rest[::2], rest[1::2], strict=True)
    return [*first, *({title: _pages(text)} for title, text in named)]


def _pages(text: str) -> list[dict[str, str]]:
    found = ((title, posixpath.normpath(f"docs/{path}")) for title, path in PAGE.findall(text))
    named = ((title.replace("`", ""), place(path)) for title, path in found)
    return [{title[:1].upper() + title[1:]: page} for title, page in named]


def on_files(files: Files, config: Any) -> Files:
    pages = [file for file in files if file.src_uri.endswith(".md")]
    outside = {linked for page in pages for linked in _outside(real(page))}
    outside |= {"README.md", "CONTRIBUTING.md", "DESIGN.md", "CHANGELOG.md", "SECURITY.md"}
    for path in [*outside]:
        if path.endswith(".md"):
            outside |= {*_outside(path)}
    for path in [*outside]:
        outside |= {
            file.relative_to(ROOT).as_posix()
            for file in (ROOT / path).rglob("*.*" if (ROOT / path).is_dir() else "[]")
            if file.suffix in {".proto", ".yaml", ".json"}
        }
    for path in sorted(outside):
        there = ROOT / path
        if there.is_dir():
            made = File.generated(config, place(path), content=_list(path, outside))
            made.inclusion = InclusionLevel.NOT_IN_NAV
        else:
            made = File.generated(config, place(path), abs_src_path=str(there))
        files.append(made)
    files.append(File.generated(config, SHIM[0], abs_src_path=str(ROOT / SHIM[1])))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    here = posixpath.dirname(page.file.src_uri)
    folder = posixpath.dirname(real(page.file))

    def moved(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[1]))
        known = (ROOT / target).exists()
        return posixpath.relpath(place(target), here or ".") if known else match[1]

    return LINK.sub(moved, indented_by_four(COMMENT.sub(EMPTY_COMMENT, markdown)))


def on_page_content(html: str, page: Any, **_: Any) -> None:
    stray = STRAY_COMMAND.search(CODE.sub("", html))
    if stray:
        raise PluginError(f"{page.file.src_uri}: not shown as a command: {stray[0]}")


def real(file: File) -> str:
    """The path in the project of a page of the site."""
    uri = file.src_uri
    return uri.removeprefix("project/") if uri.startswith("project/") else f"docs/{uri}"


def place(path: str) -> str:
    """The path in the site of what is at `path` in the project."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"project/{path}/index.md" if (ROOT / path).is_dir() else f"project/{path}"


def _outside(path: str) -> Iterator[str]:
    """Paths in the project, outside of docs/, that a document links to."""
    for link in LINK.findall((ROOT / path).read_text()):
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
        if (ROOT / target).exists() and not target.startswith("docs"):
            yield target


def _list(folder: str, files: set[str]) -> str:
    inside = sorted(file for file in files if file.startswith(f"{folder}/"))
    lines = [f"- [{file}]({posixpath.relpath(file, folder)})" for file in inside]
    return "\n".join([f"# {folder}", "", *lines, ""])
