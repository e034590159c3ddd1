from __future__ import annotations

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


def test_markup_in_data_is_data() -> None:
    captured = Captured()
    captured.screen.table([("[red]x[/red] :smile:", 1)], COLUMNS, wide=False)
    assert "[red]x[/red] :smile:" in captured.out


def test_fields_without_value_are_left_out() -> None:
    captured = Captured()
    captured.screen.print(fields([("Name", "n1"), ("Labels", ""), ("Etag", "7")]))
    assert captured.out == "Name  n1\nEtag  7\n"
