"""The pages that are committed are built from the sources that are."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from services.console.api.app import STATIC

ROOT = Path(__file__).parents[3]


def test_pages_are_built_from_the_sources() -> None:
    done = subprocess.run(
        [ROOT / "tools" / "console", "--stamp"], capture_output=True, text=True, check=True
    )
    built = (STATIC / "built-from").read_text()
    assert built == done.stdout, "run tools/console and commit what it made"


def test_pages_name_nothing_of_other_hosts() -> None:
    page = (STATIC / "index.html").read_text()
    assert re.findall(r'(?:src|href)="(?!/assets/)', page) == []
    for path in re.findall(r'(?:src|href)="(/assets/[^"]+)"', page):
        assert (STATIC / path.removeprefix("/")).is_file()
    assert "<style" not in page
    assert not re.search(r"<script(?![^>]* src=)", page)
