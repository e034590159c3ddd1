"""A page of the documents as what can be run: its commands, and what it says they print.

Comments, which nobody sees who reads the page, say what a run needs:

    <!-- run                    commands of bash that the page does not show, such as `cluster`;
    cluster FILE                if one fails, the page fails
    -->
    <!-- varies: REGEX -->      from here on, what this matches may be anything that it matches
    <!-- goes on -->            the next block's last command goes on
    <!-- file: NAME -->         the next block is a file that commands read
    <!-- not run: WHY -->       the next block cannot be run here
    <!-- page not run: WHY -->  nor can any other of this page
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt

COMMENT: Final = re.compile(r"<!--(.*?)-->", re.DOTALL)
KIND: Final = re.compile(r"(run|varies|file|goes on|not run|page not run)(?::|\s|$)")
EXIT: Final = re.compile(r"\(exit code (\d+)\)")


@dataclass(frozen=True, slots=True)
class Step:
    """One command, and what the page says of it."""

    command: str
    output: Sequence[str]
    """Without the indentation of the page; nothing: not shown."""
    exit_code: int
    lines: range
    """Where the output is in the file, its exit code too."""
    indent: str


@dataclass(frozen=True, slots=True)
class Block:
    """Commands that stand together."""

    line: int
    steps: Sequence[Step]
    not_run: str
    """Why; empty: it is run."""
    goes_on: bool


@dataclass(frozen=True, slots=True)
class Hidden:
    """Commands that the page does not show."""

    line: int
    script: str


@dataclass(frozen=True, slots=True)
class Varies:
    """From here on, what matches is not compared."""

    pattern: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class File:
    """A file that the page shows, and that commands read."""

    name: str
    content: str


Part = Block | Hidden | Varies | File


@dataclass(frozen=True, slots=True)
class Page:
    """What there is to run, in the order of the page."""

    path: Path
    parts: Sequence[Part]

    @property
    def blocks(self) -> Sequence[Block]:
        return [part for part in self.parts if isinstance(part, Block)]

    @property
    def not_run(self) -> Sequence[Block]:
        return [block for block in self.blocks if block.not_run]

    @property
    def runs(self) -> bool:
        return len(self.not_run) < len(self.blocks)


def read(path: Path) -> Page:
    """Reads a page; ValueError if its comments make no sense."""
    text = path.read_text()
    return Page(path, [*_parts(text)])


@dataclass(slots=True)
class _Notes:
    """What comments have said of the next block, and of the page."""

    not_run: str = ""
    never_run: str = ""
    goes_on: bool = False
    file: str = ""

    def take(self, kind: str, said: str) -> None:
        match kind:
            case "file":
                self.file = said
            case "goes on":
                self.goes_on = True
            case "not run":
                self.not_run = said
            case _:
                self.never_run = said

    def check_taken(self, line: int) -> None:
        if self.not_run or self.goes_on or self.file:
            raise ValueError(f"line {line}: a comment about a block, and no such block")

    def next_block(self, line: int, steps: Sequence[Step]) -> Block:
        made = Block(line, steps, self.not_run or self.never_run, self.goes_on)
        self.not_run, self.goes_on = "", False
        return made


def _parts(text: str) -> Iterator[Part]:
    lines = text.splitlines()
    notes = _Notes()
    for token in MarkdownIt().parse(text):
        if token.map is None:
            continue
        if token.type == "html_block":
            yield from _comments(token.content, token.map[0] + 1, notes)
        elif token.type in ("code_block", "fence"):
            steps = [*_steps(lines, range(*token.map))]
            if notes.file:
                yield File(notes.file, token.content)
                notes.file = ""
            elif steps:
                yield notes.next_block(token.map[0] + 1, steps)
            notes.check_taken(token.map[0] + 1)
    notes.check_taken(len(lines))


def _comments(text: str, line: int, notes: _Notes) -> Iterator[Part]:
    for content in COMMENT.findall(text):
        known = KIND.match(content.strip())
        if known is None:
            raise ValueError(f"line {line}: no such comment: {content.strip()}")
        kind, said = known[1], content.strip()[known.end() :].strip()
        if kind == "run":
            yield Hidden(line, said)
        elif kind == "varies":
            yield Varies(re.compile(said))
        else:
            notes.take(kind, said)


def _steps(lines: Sequence[str], where: range) -> Iterator[Step]:
    starts = [number for number in where if lines[number].lstrip().startswith("$ ")]
    for start, end in zip(starts, [*starts, where.stop][1:], strict=True):
        indent = lines[start][: len(lines[start]) - len(lines[start].lstrip())]
        first = start + 1
        while lines[first - 1].endswith("\\"):
            first += 1
        while end > first and not lines[end - 1].strip(" `"):
            end -= 1  # noqa: PLW2901
        output = [line.removeprefix(indent) for line in lines[first:end]]
        code = EXIT.fullmatch(output[-1].strip()) if output else None
        command = "\n".join(line.strip() for line in lines[start:first]).removeprefix("$ ")
        yield Step(
            command,
            output[:-1] if code else output,
            int(code[1]) if code else 0,
            range(first, end),
            indent,
        )
