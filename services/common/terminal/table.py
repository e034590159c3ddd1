"""Tables for people: declared columns, drawn by rich to the width of the terminal.

No boxes. In a pipe there are neither colours nor a width, so that one row is one line.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TextIO, TypeVar

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

T = TypeVar("T")

UNLIMITED = 10_000
"""Columns of a "terminal" that is a file or a pipe."""
WHOLE = 24
"""Characters of a word that is not broken, however narrow the terminal: an address stays one. A
table of which whole words need more than the terminal has is folded by the terminal."""
_TRAILING = re.compile(r" +((?:\x1b\[0m)?)$", re.MULTILINE)
GAP = 2
"""Blanks between two columns."""


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
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    shown = [column for column in columns if wide or not column.wide]
    rows = [[_text(column.text(item)) for column in shown] for item in items]
    for number, column in enumerate(shown):
        texts = [column.title, *(row[number].plain for row in rows)]
        longest = max(map(cell_len, texts))
        word = max(cell_len(word) for text in texts for word in text.split() or [""])
        solid = column.solid or column.right
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            overflow="fold",
            no_wrap=solid,
            min_width=longest if solid else min(word, WHOLE),
            max_width=longest,
        )
    for row in rows:
        table.add_row(*row)
    return table


def _text(cell: str | Text) -> Text:
    return cell if isinstance(cell, Text) else Text(cell)


def _fit(table: Table, width: int) -> int:
    """Narrows the widest columns until the table fits, or has no more than whole words; its width
    then."""
    least = [column.min_width or 0 for column in table.columns]
    widths = [column.max_width or 0 for column in table.columns]
    gaps = GAP * (len(widths) - 1)
    while sum(widths) + gaps > width:
        reducible = [number for number, each in enumerate(widths) if each > least[number]]
        if not reducible:
            break
        widths[max(reducible, key=widths.__getitem__)] -= 1
    for column, each in zip(table.columns, widths, strict=True):
        column.width = each
    return sum(widths) + gaps


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
    """Prints without the blanks that rich fills the last column with: terminals fold them, too."""
    made = isinstance(what, Table) and bool(what.columns) and what.columns[0].max_width is not None
    if isinstance(what, Table) and made and (lines := _unfolded(console, what)) is not None:
        text = "\n".join(lines) + "\n"
    elif console.is_terminal:
        width = console.width
        if isinstance(what, Table) and made:
            console.width = max(width, _fit(what, width))
        text = _rendered(console, what)
        console.width = width
    else:
        plain = Console(
            width=console.width, no_color=True, highlight=False, emoji=False, markup=False
        )
        text = _rendered(plain, what, soft_wrap=isinstance(what, Text))
        text = "".join(line.rstrip() + "\n" for line in text.splitlines())
    console.file.write(_TRAILING.sub(r"\1", text))


def _rendered(
    console: Console, what: Table | Text, *, end: str = "\n", soft_wrap: bool = False
) -> str:
    with console.capture() as captured:
        console.print(what, end=end, soft_wrap=soft_wrap)
    return captured.get()


def _unfolded(console: Console, table: Table) -> list[str] | None:
    """The lines of a table that fits without being folded: rich takes half a millisecond for each
    row of any. None: it does not fit."""
    widths = [column.max_width or 0 for column in table.columns]
    if sum(widths) + GAP * (len(widths) - 1) > console.width:
        return None
    columns: list[list[str]] = []
    for column, width in zip(table.columns, widths, strict=True):
        cells = [cell for cell in column.cells if isinstance(cell, Text)]
        if any("\n" in cell.plain for cell in cells):
            return None
        titles = [Text(str(column.header), "bold")] if table.show_header else []
        columns.append(
            [_padded(console, cell, width, column.justify) for cell in (*titles, *cells)]
        )
    return [(" " * GAP).join(row) for row in zip(*columns, strict=True)]


def _padded(console: Console, cell: Text, width: int, justify: str) -> str:
    styled = console.is_terminal and (cell.style or cell.spans)
    text = _rendered(console, cell, end="") if styled else cell.plain
    blanks = " " * (width - cell_len(cell.plain))
    return f"{blanks}{text}" if justify == "right" else f"{text}{blanks}"
