"""Tables for people: declared columns, drawn by rich to the width of the terminal.

No boxes. In a pipe there are neither colours nor a width, so that one row is one line.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TextIO, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

T = TypeVar("T")

UNLIMITED = 10_000
"""Columns of a "terminal" that is a file or a pipe."""


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """One column: its title and what it shows of an item."""

    title: str
    text: Callable[[T], str | Text]
    right: bool = False
    """Numbers are easier compared when they end at the same place."""
    wide: bool = False
    """Only with `-o wide`."""
    solid: bool = False
    """Never folded: a bar or a drawing would fall apart."""


class Screen:
    """The terminal, or what stands in for it: `out` for data, `err` for everything else."""

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.out = _console(out or sys.stdout)
        self.err = _console(err or sys.stderr)

    @property
    def interactive(self) -> bool:
        return self.err.is_terminal and sys.stdin.isatty()

    def table(self, items: Sequence[T], columns: Sequence[Column[T]], *, wide: bool) -> None:
        _print(self.out, drawn(items, columns, wide=wide))

    def problem_table(self, items: Sequence[T], columns: Sequence[Column[T]]) -> None:
        """Prints a table that explains a failure."""
        _print(self.err, drawn(items, columns, wide=True))

    def print(self, table: Table) -> None:
        _print(self.out, table)

    def line(self, text: str | Text = "") -> None:
        _print(self.out, text if isinstance(text, Text) else Text(text))

    def note(self, text: str, style: str = "") -> None:
        """Tells a person something; never data."""
        _print(self.err, Text(text, style=style))


def drawn(items: Sequence[T], columns: Sequence[Column[T]], *, wide: bool) -> Table:
    """Makes the table; cells fold where they must, never are they cut."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    shown = [column for column in columns if wide or not column.wide]
    for column in shown:
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            overflow="fold",
            no_wrap=column.solid or column.right,
        )
    for item in items:
        cells = (column.text(item) for column in shown)
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in cells))
    return table


def fields(rows: Sequence[tuple[str, str]]) -> Table:
    """A thing's fields, one below the other; those without a value are left out."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for title, value in rows:
        if value:
            table.add_row(Text(title), Text(value))
    return table


def _console(stream: TextIO) -> Console:
    terminal = stream.isatty()
    return Console(
        file=stream,
        force_terminal=terminal and os.environ.get("TERM") != "dumb",
        width=None if terminal else UNLIMITED,
        no_color=not terminal or bool(os.environ.get("NO_COLOR")),
        highlight=False,
        soft_wrap=False,
        emoji=False,
        markup=False,
    )


def _print(console: Console, what: Table | Text) -> None:
    """Prints without the blanks that rich fills the last column with."""
    if console.is_terminal:
        console.print(what)
        return
    text = io.StringIO()
    Console(
        file=text, width=console.width, no_color=True, highlight=False, emoji=False, markup=False
    ).print(what, soft_wrap=isinstance(what, Text))
    console.file.write("".join(line.rstrip() + "\n" for line in text.getvalue().splitlines()))
