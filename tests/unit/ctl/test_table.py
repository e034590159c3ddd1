from __future__ import annotations

import re

import pytest
from rich.text import Text

from services.common.terminal.table import Column, fields
from tests.unit.ctl.screens import Captured

COLUMNS: tuple[Column[tuple[str, int]], ...] = (
    Column("NAME", lambda item: item[0]),
    Column("COUNT", lambda item: str(item[1]), right=True),
    Column("MORE", lambda _: "m", wide=True),
)


def test_a_pipe_gets_aligned_lines_without_colours_boxes_or_trailing_blanks() -> None:
    captured = Captured()
    captured.screen.table([("a", 5), ("long-name", 100)], COLUMNS, wide=False)
    assert captured.out == "NAME       COUNT\na              5\nlong-name    100\n"


def test_a_pipe_has_one_line_per_row_however_long() -> None:
    captured = Captured()
    captured.screen.table([("x" * 500, 1)], COLUMNS, wide=False)
    assert len(captured.out.splitlines()) == 2


def test_wide_shows_all_columns() -> None:
    captured = Captured()
    captured.screen.table([("a", 5)], COLUMNS, wide=True)
    assert captured.out.splitlines()[0].split() == ["NAME", "COUNT", "MORE"]


def test_a_terminal_is_never_exceeded_and_nothing_is_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    captured = Captured(terminal=True)
    captured.screen.table([("abcdefghij" * 6, 12345)], COLUMNS, wide=False)
    lines = [Text.from_ansi(line).plain for line in captured.out.splitlines()]
    assert max(len(line) for line in lines) <= 40
    assert "".join(line.split()[0] for line in lines[1:]) == "abcdefghij" * 6


WORDS: tuple[Column[tuple[str, str, str]], ...] = (
    Column("ADDRESS", lambda item: item[0]),
    Column("NAME", lambda item: item[1]),
    Column("WHY NOT", lambda item: item[2]),
    Column("SIZE", lambda _: "1024", right=True),
)


@pytest.mark.parametrize("width", [8, 20, 40, 45, 60, 80, 200])
def test_addresses_are_not_broken_however_narrow_the_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    row = ("10.30.127.250/29", "web-1", "the node is not attached to the network")
    captured = Captured(terminal=True)
    captured.screen.table([row], WORDS, wide=False)
    lines = [Text.from_ansi(line).plain for line in captured.out.splitlines()]
    shown = " ".join(lines).split()
    assert {*row[2].split(), row[0], row[1], "1024", "ADDRESS", "NAME", "SIZE"} <= {*shown}
    words = max(map(len, row[2].split()))
    assert max(map(len, lines)) <= max(width, len("  ".join((*row[:2], "x" * words, "1024"))))
    assert all(line == line.rstrip() for line in lines)


STYLED: tuple[Column[str], ...] = (
    Column("NAME", lambda item: item),
    Column("STATE", lambda _: Text("ok", style="green"), right=True),
    Column("END", lambda _: "."),
)


def test_wide_letters_and_lines_in_a_cell_keep_columns_apart() -> None:
    captured = Captured()
    captured.screen.table(["名前", "ab"], STYLED, wide=False)
    assert captured.out == "NAME  STATE  END\n名前     ok  .\nab       ok  .\n"
    captured = Captured()
    captured.screen.table(["ab\nc", "d"], STYLED, wide=False)
    assert captured.out == "NAME  STATE  END\nab       ok  .\nc\nd        ok  .\n"


@pytest.mark.parametrize("width", [12, 80])
def test_a_terminal_gets_styles_whether_a_table_fits_or_not(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    captured = Captured(terminal=True)
    captured.screen.table(["two words"], STYLED, wide=False)
    assert "\x1b[1mNAME" in captured.out
    assert re.search(r"\x1b\[32m *ok\x1b\[0m", captured.out)


def test_markup_in_data_is_data() -> None:
    captured = Captured()
    captured.screen.table([("[red]x[/red] :smile:", 1)], COLUMNS, wide=False)
    assert "[red]x[/red] :smile:" in captured.out


def test_fields_without_value_are_left_out() -> None:
    captured = Captured()
    captured.screen.print(fields([("Name", "n1"), ("Labels", ""), ("Etag", "7")]))
    assert captured.out == "Name  n1\nEtag  7\n"
