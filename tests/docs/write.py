"""python -m tests.docs.write PAGE...: writes into pages what their commands print."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.docs.page import read
from tests.docs.running import Difference, differences


def write(path: Path) -> int:
    """Puts right what differs; returns how much did."""
    with tempfile.TemporaryDirectory() as folder:
        found = [*differences(read(path), Path(folder))]
    lines = path.read_text().splitlines()
    for one in reversed(found):
        where = one.step.lines
        lines[where.start : where.stop] = [
            f"{one.step.indent}{line}".rstrip() for line in _said(one)
        ]
    path.write_text("\n".join(lines) + "\n")
    return len(found)


def _said(one: Difference) -> list[str]:
    printed = [line.expandtabs() for line in one.done.lines]
    lines = [line for line in printed if not line.startswith("Request id: ")]
    if not one.step.output:
        lines = []
    while lines and not lines[-1].strip():
        lines.pop()
    if one.done.exit_code:
        lines.append(f"(exit code {one.done.exit_code})")
    return lines


def main() -> None:
    for name in sys.argv[1:]:
        print(f"{name}: {write(Path(name))} put right")  # noqa: T201


if __name__ == "__main__":
    main()
