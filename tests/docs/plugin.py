"""Pages of the documents are tests, each in a file of its own for whoever divides the work.

A plug-in of pytest. At the end of a run it says what of the pages cannot be run here, and why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.docs.page import Page, read
from tests.docs.running import differences
from tests.support.netns import missing

ROOT: Final = Path(__file__).parents[2]
TIMEOUT: Final = 600
"""Seconds for a page; some start a data center, on a machine that does other things too."""


def pages() -> Iterator[Path]:
    """All whose commands a reader may try."""
    yield ROOT / "README.md"
    yield ROOT / "CONTRIBUTING.md"
    yield from sorted((ROOT / "docs").rglob("*.md"))


class PageFile(pytest.File):
    """A file with one test, if it has commands that can be run here."""

    def collect(self) -> Iterator[PageItem]:
        page = read(self.path)
        if page.runs:
            yield PageItem.from_parent(self, name="commands", page=page)


class PageItem(pytest.Item):
    """What a page says comes of its commands."""

    def __init__(self, *, page: Page, **rest: object) -> None:
        super().__init__(**rest)  # type: ignore[arg-type]
        self._page = page
        self.add_marker(pytest.mark.timeout(TIMEOUT))

    def runtest(self) -> None:
        if missing():
            pytest.skip(f"no {missing()}")
        factory = pytest.TempPathFactory.from_config(self.config, _ispytest=True)
        found = [*differences(self._page, factory.mktemp("page"))]
        assert not found, "\n\n".join(map(str, found))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> str:  # type: ignore[override]
        if isinstance(excinfo.value, AssertionError):
            return f"{self.path.relative_to(ROOT)}\n{excinfo.value}"
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, f"commands of {self.path.relative_to(ROOT)}"


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> PageFile | None:
    """README.md, CONTRIBUTING.md and docs/, if they are asked for."""
    if file_path.suffix == ".md" and file_path in set(pages()):
        return PageFile.from_parent(parent, path=file_path)
    return None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many commands of which page are not run, for which reason."""
    kinds = [*terminalreporter.stats.values()]
    if not any(".md::" in getattr(one, "nodeid", "") for reports in kinds for one in reports):
        return
    found = [read(path) for path in pages()]
    total = sum(len(block.steps) for page in found for block in page.blocks)
    reasons: Counter[tuple[str, str]] = Counter()
    for page in found:
        for block in page.not_run:
            reasons[str(page.path.relative_to(ROOT)), block.not_run] += len(block.steps)
    terminalreporter.section("commands of the documents")
    terminalreporter.line(f"{total} commands, {sum(reasons.values())} of them not to be run here:")
    for (name, reason), count in sorted(reasons.items()):
        terminalreporter.line(f"{count:4} {name}: {reason}")
