"""Data on stdout, in the format that was asked for.

Tables are for people and follow the terminal; JSON and YAML are for programs: the protobuf JSON
mapping with the field names of the API, every field present, 64-bit numbers as strings.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TypeAlias, TypeVar

from rich.table import Table

from services.common.terminal.table import Column, Screen

M = TypeVar("M")

Json: TypeAlias = "str | int | float | bool | Sequence[Json] | dict[str, Json] | None"


class Format(StrEnum):
    """What `-o` takes."""

    TABLE = "table"
    WIDE = "wide"
    NAME = "name"
    JSON = "json"
    YAML = "yaml"


def nothing(there_is_none: str, *options: object) -> str:
    """What is said of an empty list; of options that narrow it, only that nothing fits them."""
    return "nothing matches the options" if any(options) else there_is_none


class Output:
    """Where verbs put what they found out."""

    def __init__(self, form: Format, screen: Screen) -> None:
        self.form = form
        self.screen = screen

    @property
    def for_programs(self) -> bool:
        """JSON or YAML: nothing else may be written to stdout."""
        return self.form in {Format.JSON, Format.YAML}

    @property
    def wide(self) -> bool:
        return self.form is Format.WIDE

    def value(self, value: Json) -> None:
        """Writes one whole JSON or YAML document."""
        if self.form is Format.JSON:
            sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
        else:
            sys.stdout.write(yaml_text(value))

    def event(self, value: Json) -> None:
        """Writes one document of a stream: a line of JSON, or a YAML document."""
        if self.form is Format.JSON:
            sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
        else:
            sys.stdout.write("---\n" + yaml_text(value))
        sys.stdout.flush()

    def line(self, text: str = "") -> None:
        self.screen.line(text)

    def sheet(self, table: Table) -> None:
        self.screen.print(table)

    def listing(
        self,
        items: Sequence[M],
        columns: Sequence[Column[M]],
        *,
        document: Callable[[M], Json],
        name: Callable[[M], str],
        empty: str,
    ) -> None:
        """Writes a list in any format; `empty` is said on stderr when there is nothing."""
        if self.for_programs:
            self.value([document(item) for item in items])
        elif self.form is Format.NAME:
            for item in items:
                sys.stdout.write(name(item) + "\n")
        elif items:
            self.screen.table(items, columns, wide=self.wide)
        else:
            self.screen.note(empty)


def yaml_text(value: Json) -> str:
    """One document: what JSON would have of the value, which takes words of enums for text."""
    import yaml  # noqa: PLC0415  # 30 ms that only YAML output has to pay

    same = json.loads(json.dumps(value))
    return yaml.safe_dump(same, sort_keys=False, allow_unicode=True, default_flow_style=False)
