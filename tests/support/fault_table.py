"""What came of each kind of fault, as a table at the end of a run.

A test adds a `FaultCount` to its report for each fault that it made. Loaded as a plug-in by the
suite's conftest: pytest's controller puts together what all files and workers have reported, that
of tests which failed, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import pytest

PROPERTY: Final = "fault"
Record = Callable[[str, object], None]
"""pytest's `record_property`."""


@dataclass(frozen=True, slots=True)
class FaultCount:
    """What was seen while faults of one kind were made and until they were overcome.

    `None`: the test has nothing of that sort.
    """

    kind: str
    acknowledged: int
    """What was done and said to be done."""
    duplicates: int | None = None
    """Addresses that two names had at one time."""
    losses: int | None = None
    """Acknowledged, and not there."""
    leaks: int | None = None
    """There, and nobody's by what was acknowledged."""
    open_probes: int | None = None
    """Packets that passed where an acknowledged policy denies them."""
    longest_gap: float = 0.0
    """Seconds without anything acknowledged, or any packet where they are allowed."""
    times: int = 1
    """How often it was made."""

    @property
    def is_clean(self) -> bool:
        return not (self.duplicates or self.losses or self.leaks or self.open_probes)

    def record(self, record: Record) -> None:
        """Puts it into the report of the test whose `record_property` that is."""
        record(PROPERTY, asdict(self))


def merged(counts: Iterable[FaultCount]) -> Sequence[FaultCount]:
    """One for each kind, in the order in which they first came."""
    found: dict[str, FaultCount] = {}
    for one in counts:
        other = found.get(one.kind)
        found[one.kind] = one if other is None else _sum(other, one)
    return [*found.values()]


def _sum(one: FaultCount, other: FaultCount) -> FaultCount:
    return FaultCount(
        one.kind,
        one.acknowledged + other.acknowledged,
        _plus(one.duplicates, other.duplicates),
        _plus(one.losses, other.losses),
        _plus(one.leaks, other.leaks),
        _plus(one.open_probes, other.open_probes),
        max(one.longest_gap, other.longest_gap),
        one.times + other.times,
    )


def _plus(one: int | None, other: int | None) -> int | None:
    return one if other is None else other if one is None else one + other


def table(counts: Iterable[FaultCount]) -> Iterator[str]:
    """Lines for people."""
    yield (
        f"{'fault':<44} {'times':>5} {'acknowledged':>12} {'duplicates':>10} {'losses':>6}"
        f" {'leaks':>5} {'open probes':>11} {'longest gap':>11}"
    )
    for one in merged(counts):
        numbers = (one.duplicates, one.losses, one.leaks, one.open_probes)
        cells = ["-" if number is None else str(number) for number in numbers]
        yield (
            f"{one.kind:<44} {one.times:>5} {one.acknowledged:>12} {cells[0]:>10} {cells[1]:>6}"
            f" {cells[2]:>5} {cells[3]:>11} {one.longest_gap:>9.2f} s"
        )


def reported(reports: Iterable[Any]) -> list[FaultCount]:
    """Those in the reports of tests."""
    return [
        FaultCount(**value)
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == PROPERTY
    ]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the table if any fault was made."""
    reports = [one for several in terminalreporter.stats.values() for one in several]
    counts = reported(reports)
    if counts:
        terminalreporter.section("faults")
        for line in table(counts):
            terminalreporter.write_line(line)
