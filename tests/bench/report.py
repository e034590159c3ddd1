"""What a benchmark found, as a table. Nothing here fails: a number that is not met is shown."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement beside its baseline of the same run."""

    what: str
    measured: str
    baseline: str = "-"
    """What it is compared with, and its value."""
    ratio: float | None = None
    """Measured to baseline."""
    aim: str = "-"
    met: bool | None = None
    """None: there is no aim."""


HEAD = ("what", "measured", "baseline", "ratio", "aim", "met")


def show(title: str, rows: Sequence[Row], *, judged: bool) -> None:
    """Prints a table; without judgement if the counts were too small for one."""
    table = [HEAD]
    for row in rows:
        met = "-" if row.met is None or not judged else "yes" if row.met else "NO"
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        table.append((row.what, row.measured, row.baseline, ratio, row.aim, met))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    write(f"\n== {title}")
    for line in table:
        write("  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)))


def write(line: str) -> None:
    sys.stdout.write(line.rstrip() + "\n")
    sys.stdout.flush()


def rate(per_second: float, what: str) -> str:
    return f"{per_second:,.0f} {what}/s"
