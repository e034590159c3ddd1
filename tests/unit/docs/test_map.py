"""The map of the source: every folder has its row, and every module that is named is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MAPS = ("DESIGN.md", "CONTRIBUTING.md")
SOURCES = ("services", "lab", "tests", "tools")
MODULE = re.compile(r"`((?:services|lab|tools|protos|tests|docs|typings)/[\w./-]*)`")
ROW = re.compile(r"^\| `([\w/]+)` \|", re.MULTILINE)
WALK = re.compile(
    r"^### (An allocation|An attach|A policy change)\n(.*?)(?=^#|^Review)", re.MULTILINE | re.DOTALL
)
MOST = 10
"""Modules that a walk passes."""
PARAGRAPH = 650
"""Characters; whoever reads more in one piece finds nothing in it."""


def folders() -> set[str]:
    """Packages that hold modules."""
    found = {path.parent for path in (ROOT / "services").rglob("*.py") if path.stat().st_size}
    return {str(path.relative_to(ROOT)) for path in found}


@pytest.mark.parametrize("document", MAPS)
def test_what_is_named_is_there(document: str) -> None:
    named = MODULE.findall((ROOT / document).read_text())
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_folder_has_its_row() -> None:
    rows = ROW.findall((ROOT / "DESIGN.md").read_text())
    services = {name for name in folders() if name.count("/") == 1}
    assert sorted(folders() - services - set(rows)) == []
    assert len(rows) == len(set(rows))


def test_the_walks_are_short() -> None:
    walks = WALK.findall((ROOT / "DESIGN.md").read_text())
    assert len(walks) == 3
    for name, text in walks:
        assert 3 < len(MODULE.findall(text)) <= MOST, name


def test_the_contents_of_design_list_its_sections() -> None:
    text = (ROOT / "DESIGN.md").read_text()
    sections = re.findall(r"(?m)^## (.+)$", text)
    assert sections
    assert re.findall(r"(?m)^\| \[([^\]]+)\]\(#\d", text) == sections


def test_sections_of_design_end_with_review_notes() -> None:
    _, _, *sections = re.split(r"(?m)^## ", (ROOT / "DESIGN.md").read_text())
    assert sections
    for section in sections:
        assert section.rstrip().split("\n\n")[-1].startswith("Review notes: "), section[:30]


def test_paragraphs_of_design_are_short() -> None:
    """Lists have an item each."""
    blocks = re.split(r"\n\n|\n(?= *(?:- |\d+\. |\|))", (ROOT / "DESIGN.md").read_text())
    prose = [block for block in blocks if not block.startswith(("|", "    "))]
    assert [block for block in prose if len(block) > PARAGRAPH] == []


def test_modules_are_split_as_contributing_says() -> None:
    (most,) = re.findall(r"split at (\d+)", (ROOT / "CONTRIBUTING.md").read_text())
    modules = [path for name in SOURCES for path in (ROOT / name).rglob("*.py")]
    lines = {path: len(path.read_text().splitlines()) for path in modules}
    assert len(lines) > 1000
    assert [f"{path}: {number}" for path, number in lines.items() if number > int(most)] == []
