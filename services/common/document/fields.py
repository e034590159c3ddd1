"""Reads the fields of a tree and collects what is wrong with its shape."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from services.common.document.tree import Items, Scalar, Table, Tree
from services.common.errors import Violation

_NUMBER = re.compile(r"-?[0-9]{1,18}")


@dataclass(slots=True)
class Findings:
    problems: list[Violation] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)
    """The line of each field path, where it is known."""
    source: str = ""
    """Name of the document, for its readers."""

    def wrong(self, at: str, message: str) -> None:
        self.problems.append(Violation(at, message))

    def located(self, problems: list[Violation]) -> list[Violation]:
        """The problems with the lines of their fields, or of what these are in."""
        return [Violation(p.path, f"{p.message}{self._line(p.path)}") for p in problems]

    def _line(self, path: str) -> str:
        of = f" of {self.source}" if self.source else ""
        while path:
            if path in self.lines:
                return f" (line {self.lines[path]}{of})"
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return f" (in {self.source})" if self.source else ""


class Fields:
    """The fields of one mapping; each is asked for by name, and `end` refuses the rest."""

    def __init__(self, tree: Tree, at: str, findings: Findings) -> None:
        self.at = at
        self.findings = findings
        self._known: set[str] = set()
        self._ignored: set[str] = set()
        self._items: Mapping[str, Tree] = {}
        self._names: Mapping[str, str] = {}
        if isinstance(tree, Table):
            self.at, self._items, self._names = tree.at or at, tree.items, tree.names
        elif not (isinstance(tree, Scalar) and tree.is_null):
            subject = "" if at else "the document "
            findings.wrong(at, f"{subject}must be a mapping of fields")
        if tree.line:
            findings.lines.setdefault(self.at, tree.line)

    def path(self, name: str) -> str:
        name = self._names.get(name, name)
        return f"{self.at}.{name}" if self.at else name

    def key_path(self, name: str, key: str) -> str:
        """The field path of an item of a mapping."""
        return f"{self.path(name)}[{key[:80]!r}]"

    def wrong(self, name: str, message: str) -> None:
        self.findings.wrong(self.path(name), message)

    def add(self, problems: Iterable[Violation]) -> None:
        self.findings.problems.extend(problems)

    def has(self, name: str) -> bool:
        return self._get(name) is not None

    def is_empty(self, name: str) -> bool:
        """Says whether it is not given, or an empty text."""
        return not self.has(name) or self.is_scalar(name, "")

    def is_scalar(self, name: str, text: str) -> bool:
        """Says whether it is given as that text, whatever else it may be."""
        tree = self._get(name)
        return isinstance(tree, Scalar) and tree.text == text

    def spelled(self, name: str, *others: str) -> str:
        """By which of its names a field is given; only one may be."""
        self._known.add(name)  # of the others nobody is to be told, unless they are there
        if self._items.keys().isdisjoint((name, *others)):
            return name
        given = [each for each in dict.fromkeys((name, *others)) if each in self._items]
        given = [each for each in given if self.has(each)]
        if len(given) > 1:
            self.wrong(given[1], f"says the same as {given[0]!r}")
        return given[0] if given else name

    def child(self, name: str) -> Tree | None:
        """Whatever is there; None: the field is not given."""
        return self._get(name)

    def text(self, name: str) -> str:
        """A text; empty: not given, or wrong."""
        tree = self._get(name)
        if isinstance(tree, Scalar):
            return tree.text
        if tree is not None:
            self.wrong(name, "must be a text")
        return ""

    def number(self, name: str) -> int | None:
        """A whole number; None: not given, or wrong."""
        text = self.text(name)
        if not text:
            return None
        if _NUMBER.fullmatch(text):
            return int(text)
        self.wrong(name, f"{text[:80]!r} is not a whole number")
        return None

    def truth(self, name: str) -> bool:
        """`true` or `false`, in whatever case; false if it is not given."""
        text = self.text(name).lower()
        if text not in {"", "true", "false"}:
            self.wrong(name, f"{text[:80]!r} is not one of true, false")
        return text == "true"

    def texts(self, name: str) -> tuple[str, ...]:
        found = []
        for item, at in self.each(name):
            if isinstance(item, Scalar) and not item.is_null:
                found.append(item.text)
            else:
                self.findings.wrong(at, "must be a text")
        return tuple(found)

    def mapping(self, name: str) -> dict[str, str]:
        tree = self._get(name)
        if tree is None:
            return {}
        if not isinstance(tree, Table):
            self.wrong(name, "must be a mapping of texts")
            return {}
        found = {}
        for key, item in tree.items.items():
            at = self.key_path(name, key)
            if item.line:
                self.findings.lines[at] = item.line
            if isinstance(item, Scalar):
                found[key] = "" if item.is_null else item.text
            else:
                self.findings.wrong(at, "must be a text")
        return found

    def keys(self, name: str) -> tuple[str, ...]:
        """The keys of a mapping, whatever it maps to."""
        tree = self._get(name)
        return tuple(tree.items) if isinstance(tree, Table) else ()

    def each(self, name: str) -> Iterator[tuple[Tree, str]]:
        """The items of a list, each with its field path."""
        tree = self._get(name)
        if tree is None:
            return
        if not isinstance(tree, Items):
            self.wrong(name, "must be a list")
            return
        for number, item in enumerate(tree.items):
            at = f"{self.path(name)}[{number}]"
            if isinstance(item, Table) and item.at:
                at = item.at
            if item.line:
                self.findings.lines[at] = item.line
            yield item, at

    def part(self, name: str) -> Fields:
        """The fields of a mapping in this one."""
        return Fields(self._get(name) or Table(), self.path(name), self.findings)

    def parts(self, name: str, *, scalar_is: str = "") -> Iterator[Fields]:
        """The fields of each mapping in a list; `scalar_is`: the field that a scalar stands for."""
        for item, at in self.each(name):
            tree = item
            if scalar_is and isinstance(item, Scalar):
                tree = Table({scalar_is: item}, item.line)
            yield Fields(tree, at, self.findings)

    def ignore(self, *names: str) -> None:
        """Fields that may be there and mean nothing."""
        self._ignored.update(names)

    def end(self) -> None:
        for name, tree in self._items.items():
            if name not in self._known | self._ignored:
                near = difflib.get_close_matches(name, self._known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                if tree.line:
                    self.findings.lines[self.path(name[:80])] = tree.line
                self.findings.wrong(self.path(name[:80]), f"there is no such field{hint}")

    def _get(self, name: str) -> Tree | None:
        self._known.add(name)
        tree = self._items.get(name)
        if tree is None or (isinstance(tree, Scalar) and tree.is_null):
            return None
        if tree.line:
            self.findings.lines[self.path(name)] = tree.line
        return tree
