"""How the demo speaks: headings, sentences, commands with their real output, tables."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from rich.text import Text

from lab.local import COMMAND
from lab.namespaces import inside
from services.common.terminal.table import Column, Screen

T = TypeVar("T")

COMMAND_TIMEOUT = 30.0
"""Seconds."""
LINE_LENGTH = 76
"""From where on a command line is folded."""


class Unexpected(Exception):
    """Something did not go as the demo says."""


class Story:
    def __init__(self) -> None:
        self._screen = Screen()
        self._steps = 0

    def title(self, text: str) -> None:
        self._screen.line(Text(text, style="bold"))

    def picture(self, text: str) -> None:
        self._screen.line()
        self._screen.line(Text(text, style="cyan", no_wrap=True))

    def step(self, text: str) -> None:
        self._steps += 1
        self._screen.line()
        self._screen.line(Text(f"── {self._steps}. {text}", style="bold cyan"))

    def say(self, text: str) -> None:
        self._screen.line(text)

    def gap(self) -> None:
        self._screen.line()

    def table(self, items: Sequence[T], columns: Sequence[Column[T]]) -> None:
        """What a call said, as the `romana` command would show it."""
        self._screen.table(items, columns, wide=True)

    def command(self, *arguments: str) -> None:
        """The command line as a person would type it."""
        lines = folded(["romana", *arguments])
        self._screen.line(Text.assemble(("$ ", "bold green"), (lines, "bold")))
        sys.stdout.flush()

    async def romana(
        self,
        *arguments: str,
        environment: Mapping[str, str],
        namespace: Path | None = None,
        ends: int = 0,
    ) -> None:
        """Runs the `romana` command, perhaps in a namespace; what it says goes where ours goes.

        Raises:
            Unexpected: It ends with another exit code than `ends`.
        """
        self._screen.line()
        self.command(*arguments)
        command = [*COMMAND, *arguments]
        process = await asyncio.create_subprocess_exec(
            *(command if namespace is None else inside(namespace, command)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=sys.stdout.fileno(),
            stderr=sys.stdout.fileno(),
            env=dict(environment),
        )
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT):
                code = await process.wait()
        except BaseException:
            process.kill()
            await process.wait()
            raise
        if code != ends:
            raise Unexpected(f"romana {arguments[0]} ended with {code}, not with {ends}")
        if ends:
            self._screen.line(Text(f"(exit code {ends})", style="dim"))


def folded(words: Sequence[str]) -> str:
    """A command line that can be copied, over several lines if it is long."""
    first, *others = map(shlex.quote, words)
    lines = [first]
    for word in others:
        if len(lines[-1]) + len(word) > LINE_LENGTH:
            lines[-1] += " \\"
            lines.append(f"    {word}")
        else:
            lines[-1] += f" {word}"
    return "\n".join(lines)
