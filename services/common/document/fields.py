"""Reads the fields of a tree and collects what is wrong with its shape."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from services.common.document.tree import Items, Scalar, Table, Tree
from services.common.errors import Violation

_NUMBER = re.compile(r"-?[0-9]{1,18}")
_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)(ms|s|m|h|)")
_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}

_T = TypeVar("_T")


@dataclass(slots=True)
class Findings:
    """What was seen in a document."""

    problems: list[Violation] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)
    """The line of each field path, where it is known."""
    source: str = ""
    """Name of the document, for its readers."""

    def wrong(self, at: str, message: str) -> None:
        """Adds a problem."""
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
        self._findings = findings
        self._known: set[str] = set()
        self._items: dict[str, Tree] = {}
        if tree.line:
            findings.lines.setdefault(at, tree.line)
        if isinstance(tree, Table):
            self._items = tree.items
        elif not (isinstance(tree, Scalar) and tree.is_null):
            findings.wrong(at, "must be a mapping of fields")

    def path(self, name: str) -> str:
        """The field path of a field."""
        return f"{self.at}.{name}" if self.at else name

    def has(self, name: str) -> bool:
        """Says whether the field is given."""
        return self._get(name) is not None

    def child(self, name: str) -> Tree | None:
        """Whatever is there; None: the field is not given."""
        return self._get(name)

    def text(self, *names: str) -> str:
        """A text; the first name that is given counts, and only one may be."""
        for name in names:
            tree = self._get(name)
            if isinstance(tree, Scalar):
                return tree.text
            if tree is not None:
                self._findings.wrong(self.path(name), "must be a text")
        return ""

    def number(self, *names: str) -> int | None:
        """A whole number; None: not given, or wrong."""
        given = [name for name in names if self.has(name)]
        if len(given) > 1:
            self._findings.wrong(self.path(given[1]), f"says the same as {given[0]!r}")
        text = self.text(*names)
        if not given or not text:
            return None
        if _NUMBER.fullmatch(text):
            return int(text)
        self._findings.wrong(self.path(given[0]), f"{text[:80]!r} is not a whole number")
        return None

    def duration(self, name: str) -> float | None:
        """Seconds, from text such as 30s, 500ms, 2m or a bare number of seconds."""
        text = self.text(name)
        if not text:
            return None
        match = _DURATION.fullmatch(text)
        if match:
            return float(match[1]) * _UNITS[match[2]]
        self._findings.wrong(
            self.path(name), f"{text[:80]!r} is not a duration such as '30s', '500ms' or '2m'"
        )
        return None

    def choice(self, name: str, kind: Callable[[str], _T], default: _T, choices: str) -> _T:
        """One of a few words, in whatever case."""
        text = self.text(name)
        if not text:
            return default
        try:
            return kind(text.lower())
        except ValueError:
            self._findings.wrong(self.path(name), f"{text[:80]!r} is not one of {choices}")
            return default

    def truth(self, name: str) -> bool:
        """`true` or `false`, in whatever case; false if it is not given."""
        text = self.text(name).lower()
        if text not in {"", "true", "false"}:
            self._findings.wrong(self.path(name), f"{text[:80]!r} is not one of true, false")
        return text == "true"

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        found = []
        for item, at in self.each(name):
            if isinstance(item, Scalar) and not item.is_null:
                found.append(item.text)
            else:
                self._findings.wrong(at, "must be a text")
        return tuple(found)

    def mapping(self, name: str) -> dict[str, str]:
        """A mapping of texts to texts."""
        tree = self._get(name)
        if tree is None:
            return {}
        if not isinstance(tree, Table):
            self._findings.wrong(self.path(name), "must be a mapping of texts")
            return {}
        found = {}
        for key, item in tree.items.items():
            at = f"{self.path(name)}[{key[:80]!r}]"
            if item.line:
                self._findings.lines[at] = item.line
            if isinstance(item, Scalar):
                found[key] = "" if item.is_null else item.text
            else:
                self._findings.wrong(at, "must be a text")
        return found

    def each(self, name: str) -> Iterator[tuple[Tree, str]]:
        """The items of a list, each with its field path."""
        tree = self._get(name)
        if tree is None:
            return
        if not isinstance(tree, Items):
            self._findings.wrong(self.path(name), "must be a list")
            return
        for number, item in enumerate(tree.items):
            at = f"{self.path(name)}[{number}]"
            if item.line:
                self._findings.lines[at] = item.line
            yield item, at

    def part(self, name: str) -> Fields:
        """The fields of a mapping in this one; none if it is not given."""
        return Fields(self._get(name) or Table(), self.path(name), self._findings)

    def ignore(self, *names: str) -> None:
        """Fields that may be there and mean nothing."""
        self._known.update(names)

    def end(self) -> None:
        """Refuses what was not asked for."""
        for name, tree in self._items.items():
            if name not in self._known:
                near = difflib.get_close_matches(name, self._known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                if tree.line:
                    self._findings.lines[self.path(name[:80])] = tree.line
                self._findings.wrong(self.path(name[:80]), f"there is no such field{hint}")

    def _get(self, name: str) -> Tree | None:
        self._known.add(name)
        tree = self._items.get(name)
        if tree is None or (isinstance(tree, Scalar) and tree.is_null):
            return None
        if tree.line:
            self._findings.lines[self.path(name)] = tree.line
        return tree
