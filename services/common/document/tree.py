"""Reads YAML or JSON into one plain tree, with the line of everything.

Scalars keep the text that was written, and whoever reads a field decides what it must be. So there
are none of YAML's surprises: `no`, `1e3` and `010` are the text they look like wherever a name or a
label value is expected, quoted or not, and a number is one only where a number is expected. In
JSON, numbers and booleans are their text likewise.

Nothing that a file can hold makes this slow or deep: size, nesting and the nodes that aliases stand
for are bounded, and no stack grows with the input.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import yaml

from services.common.errors import InvalidInput, Violation

try:
    from yaml import CSafeLoader as YamlLoader
except ImportError:  # PyYAML without libyaml
    from yaml import SafeLoader as YamlLoader  # type: ignore[assignment] # it reads the same

MAX_BYTES: Final = 8 << 20
"""An export of 5,000 nodes with labels and attachments has 2.5 MiB as YAML and 4 as JSON."""
MAX_DEPTH: Final = 100
MAX_NODES: Final = 500_000
"""Aliases count as what they stand for. This is what bounds the time, to about 5 s of one core."""
TEXT_PATH: Final = "document.text"

_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_NULLS = {"", "~", "null", "Null", "NULL"}


@dataclass(frozen=True, slots=True)
class Scalar:
    text: str
    line: int = 0
    """From 1; 0: not known."""
    is_null: bool = False
    is_quoted: bool = False
    """Written as text, so that it is one to JSON, too."""


@dataclass(frozen=True, slots=True)
class Items:
    items: list[Tree] = field(default_factory=list)
    line: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping; every key is there once."""

    items: dict[str, Tree] = field(default_factory=dict)
    line: int = 0
    at: str = ""
    """Its field path, if it was made of another form of document and is somewhere else in that."""
    names: Mapping[str, str] = field(default_factory=dict)
    """The names that fields have there, where they differ."""


Tree = Scalar | Items | Table
Json: TypeAlias = "str | int | bool | list[Json] | dict[str, Json] | None"


def read_tree(text: str) -> Tree:
    """Reads JSON or one YAML document, told apart by looking."""
    return _read(text, single=True)[0]


def read_trees(text: str) -> list[Tree]:
    """Reads JSON or all documents of a YAML text, without empty ones; at least one."""
    return _read(text, single=False)


def read_yaml(text: str) -> Tree:
    """Reads one YAML document; raises InvalidInput with line and column."""
    return _read_yaml(text, single=True)[0]


def read_json(text: str) -> Tree:
    """Reads JSON; raises InvalidInput with line and column. Lines are not known afterwards."""
    _bounded(text)
    _few_values(text)
    try:
        loaded = json.loads(
            text,
            parse_int=Scalar,
            parse_float=Scalar,
            parse_constant=Scalar,
            object_pairs_hook=_unique,
        )
    except json.JSONDecodeError as error:
        raise malformed(error.msg, error.lineno - 1, error.colno - 1) from error
    except RecursionError as error:
        raise malformed(f"nested more than {MAX_DEPTH} deep", 0, 0) from error
    return _from_loaded(loaded, 0)


def _read(text: str, *, single: bool) -> list[Tree]:
    if not text.lstrip("\ufeff \t\r\n").startswith(("{", "[")):
        return _read_yaml(text, single=single)
    try:
        return [read_json(text.removeprefix("\ufeff"))]
    except InvalidInput as error:
        if error.reason != "MALFORMED_DOCUMENT":
            raise
        try:  # a YAML flow mapping looks like JSON at first
            return _read_yaml(text, single=single)
        except InvalidInput:
            raise error from None


def _read_yaml(text: str, *, single: bool) -> list[Tree]:
    _bounded(text)
    builder = _Builder(single=single)
    try:
        for event in yaml.parse(text, Loader=YamlLoader):
            builder.add(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        why = error.problem or error.context or "not YAML"
        raise malformed(why, mark.line if mark else 0, mark.column if mark else 0) from error
    except yaml.reader.ReaderError as error:
        line, column = _locate(text, text.find(chr(error.character)))
        raise malformed(f"character {error.character!r} is not allowed", line, column) from error
    except yaml.YAMLError as error:
        raise malformed(str(error), 0, 0) from error
    found = [tree for tree in builder.roots if not (isinstance(tree, Scalar) and tree.is_null)]
    if not builder.roots or (not found and not single):
        raise malformed("the document is empty", 0, 0)
    return builder.roots if single else found


def to_json(tree: Tree) -> Json:
    """The values of JSON that a tree stands for."""
    match tree:
        case Table():
            return {key: to_json(item) for key, item in tree.items.items()}
        case Items():
            return [to_json(item) for item in tree.items]
        case Scalar(is_null=True):
            return None
        case Scalar(is_quoted=False, text="true" | "false"):
            return tree.text == "true"
        case Scalar(is_quoted=False) if _INTEGER.fullmatch(tree.text):
            return int(tree.text)
        case _:
            return tree.text


def from_json(value: Json) -> Tree:
    """The tree that stands for values of JSON; lines are not known."""
    match value:
        case dict():
            return Table({key: from_json(item) for key, item in value.items()})
        case list():
            return Items([from_json(item) for item in value])
        case None:
            return Scalar("null", is_null=True)
        case bool():
            return Scalar(str(value).lower())
        case _:
            return Scalar(str(value), is_quoted=isinstance(value, str))


def malformed(why: str, line: int, column: int) -> InvalidInput:
    """The error for a text that cannot be read; line and column are from 0."""
    place = f"line {line + 1}, column {column + 1}: {why}"
    return InvalidInput(
        f"the document cannot be read: {place}",
        reason="MALFORMED_DOCUMENT",
        metadata={"line": str(line + 1), "column": str(column + 1)},
        violations=(Violation(TEXT_PATH, place),),
    )


class _Builder:
    def __init__(self, *, single: bool) -> None:
        self._single = single
        self.roots: list[Tree] = []
        self._open: list[tuple[Items | Table, str | None]] = []
        """What is being filled, with its anchor."""
        self._keys: list[str | None] = []
        """For each of them, the key that waits for its value."""
        self._anchors: dict[str, tuple[Tree, int]] = {}
        """With the number of nodes each stands for."""
        self._starts: list[int] = []
        self._nodes = 0

    def add(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            if self._single and self.roots:
                raise self._wrong(event, "there is more than one document")
            self._anchors.clear()
        if isinstance(event, yaml.NodeEvent):
            self._count(event, 1)
        match event:
            case yaml.ScalarEvent():
                self._scalar(event)
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.SequenceStartEvent():
                self._enter(event, Items(line=_mark(event)[0] + 1))
            case yaml.MappingStartEvent():
                self._enter(event, Table(line=_mark(event)[0] + 1))
            case yaml.CollectionEndEvent():
                tree, anchor = self._open.pop()
                self._keys.pop()
                start = self._starts.pop()
                if anchor:
                    self._anchors[anchor] = (tree, self._nodes - start)

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        self._refuse_tag(event, event.tag)
        plain = event.style in (None, "")
        null = plain and event.value in _NULLS
        scalar = Scalar(event.value, _mark(event)[0] + 1, null, not plain)
        if event.anchor:
            self._anchors[event.anchor] = (scalar, 1)
        self._add(event, scalar)

    def _alias(self, event: yaml.AliasEvent) -> None:
        if event.anchor not in self._anchors:
            raise self._wrong(event, f"alias *{event.anchor} stands for nothing complete")
        tree, size = self._anchors[event.anchor]
        self._count(event, size)
        self._add(event, tree)

    def _refuse_tag(self, event: yaml.Event, tag: str | None) -> None:
        if tag not in (None, "!"):
            raise self._wrong(event, f"tags have no meaning here: {tag}")

    def _enter(self, event: yaml.CollectionStartEvent, tree: Items | Table) -> None:
        self._refuse_tag(event, event.tag)
        if len(self._open) >= MAX_DEPTH:
            raise self._wrong(event, f"nested more than {MAX_DEPTH} deep")
        if event.anchor:
            self._anchors.pop(event.anchor, None)
        self._add(event, tree)
        self._open.append((tree, event.anchor))
        self._keys.append(None)
        self._starts.append(self._nodes)

    def _add(self, event: yaml.Event, tree: Tree) -> None:
        if not self._open:
            self.roots.append(tree)
            return
        parent, _ = self._open[-1]
        if isinstance(parent, Items):
            parent.items.append(tree)
            return
        key = self._keys[-1]
        if key is not None:
            parent.items[key] = tree
            self._keys[-1] = None
        elif not isinstance(tree, Scalar):
            raise self._wrong(event, "a key must be text")
        elif tree.text in parent.items:
            raise self._wrong(event, f"{tree.text[:80]!r} is there twice")
        else:
            self._keys[-1] = tree.text

    def _count(self, event: yaml.Event, number: int) -> None:
        self._nodes += number
        if self._nodes > MAX_NODES:
            raise self._wrong(event, f"the document has more than {MAX_NODES} nodes")

    def _wrong(self, event: yaml.Event, why: str) -> InvalidInput:
        return malformed(why, *_mark(event))


def _mark(event: yaml.Event) -> tuple[int, int]:
    """Line and column, from 0."""
    mark = event.start_mark
    return (mark.line, mark.column) if mark is not None else (0, 0)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise InvalidInput.at(TEXT_PATH, f"{twice[:80]!r} is there twice in one object")
    return found


def _from_loaded(value: object, depth: int) -> Tree:
    if depth > MAX_DEPTH:
        raise malformed(f"nested more than {MAX_DEPTH} deep", 0, 0)
    match value:
        case Scalar():
            return value
        case None:
            return Scalar("null", is_null=True)
        case bool():
            return Scalar("true" if value else "false")
        case list():
            return Items([_from_loaded(item, depth + 1) for item in value])
        case dict():
            return Table({str(key): _from_loaded(item, depth + 1) for key, item in value.items()})
        case _:
            return Scalar(str(value), is_quoted=True)


def _bounded(text: str) -> None:
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise InvalidInput.at(TEXT_PATH, f"the document has more than {MAX_BYTES} bytes")


def _few_values(text: str) -> None:
    """Bounds a JSON text before it is parsed.

    Every value stands behind a comma, behind a bracket or at the start; those inside of strings are
    counted too.
    """
    if text.count(",") + text.count("[") + text.count("{") >= MAX_NODES:
        raise malformed(f"the document has more than {MAX_NODES} nodes", 0, 0)


def _locate(text: str, position: int) -> tuple[int, int]:
    position = max(position, 0)
    line = text.count("\n", 0, position)
    return line, position - (text.rfind("\n", 0, position) + 1)
