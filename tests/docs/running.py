"""Runs a page from its beginning to its end."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.docs.compare import agree
from tests.docs.page import Block, File, Hidden, Page, Step, Varies
from tests.docs.shell import Done, Shell, shell

START_SECONDS: Final = 60.0
"""For a command that goes on, until it has printed what the page shows; for a busy machine."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A command that did not do what the page says."""

    step: Step
    done: Done

    def __str__(self) -> str:
        said = [*self.step.output, f"(exit code {self.step.exit_code})"]
        printed = [*self.done.lines, f"(exit code {self.done.exit_code})"]
        return "\n".join(
            [
                f"line {self.step.lines.start}: $ {self.step.command}",
                *(f"  - {line}" for line in said),
                *(f"  + {line}" for line in printed if line.strip()),
            ]
        )


def differences(page: Page, folder: Path) -> Iterator[Difference]:
    """Runs all that can be run; AssertionError if what the page does not show fails."""
    varies: list[re.Pattern[str]] = []
    with shell(folder) as terminal:
        for part in page.parts:
            match part:
                case Varies(pattern):
                    varies.append(pattern)
                case Hidden(line, script):
                    done = terminal.run(f"set -e; {script}\nset +e")
                    assert done.exit_code == 0, f"line {line}:\n" + "\n".join(done.lines)
                case File(name, content):
                    (folder / name).write_text(content)
                case Block() if not part.not_run:
                    yield from _block(part, terminal, varies)


def _block(
    block: Block, terminal: Shell, varies: Sequence[re.Pattern[str]]
) -> Iterator[Difference]:
    for step in block.steps:
        if block.goes_on and step is block.steps[-1]:
            done = terminal.start(
                step.command,
                lambda lines, said=step.output: agree(said, lines, varies),
                START_SECONDS,
            )
        else:
            done = terminal.run(step.command)
        fits = not step.output or agree(step.output, done.lines, varies)
        if not fits or done.exit_code != step.exit_code:
            yield Difference(step, done)
