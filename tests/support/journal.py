"""What was acknowledged to whom and when, and what must follow from it.

One process keeps it, so that all times are of one clock. Every name belongs to one worker, which
does one thing at a time with it. A call that was given up may still take effect later, which no
server can prevent; the worker then tries again until it gets an answer, so that in the end nothing
is open. `began` is when the first attempt was sent, `ended` when the answer came: a name certainly
holds its addresses from the answer to its allocation until its release is first sent.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Action = Literal["allocate", "release"]
Addresses = tuple[str, ...]
_CLOCKS = 0.1
"""Seconds by which two clocks of one machine may be apart over a run."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer."""

    name: str
    action: Action
    began: float
    ended: float
    attempts: int
    replica: str
    """The address that answered."""
    addresses: Addresses
    existed: bool = False


class Journal:
    """Answers in the order they came."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.unexpected: list[str] = []
        """Answers that no fault explains."""
        self.attempts: dict[int, str] = {}
        """What each worker tried last, and what came of it."""
        self._held: dict[str, Addresses] = {}

    def add(self, entry: Entry) -> None:
        """Notes an answer, and whether it fits the ones before."""
        self.entries.append(entry)
        held = self._held.get(entry.name)
        if entry.action == "allocate":
            if held is not None and (entry.addresses != held or not entry.existed):
                self.unexpected.append(f"it held {held} before: {entry}")
            if held is None and entry.existed and entry.attempts == 1:
                self.unexpected.append(f"it was released, or never allocated, before: {entry}")
            self._held[entry.name] = entry.addresses
        else:
            wrong = set(entry.addresses) - set(held or ())
            missing = entry.attempts == 1 and set(held or ()) - set(entry.addresses)
            if held is not None and (wrong or missing):
                self.unexpected.append(f"it held {held} before: {entry}")
            if held is None and entry.addresses and entry.attempts == 1:
                self.unexpected.append(f"it held nothing before: {entry}")
            self._held.pop(entry.name, None)

    def open(self) -> Sequence[str]:
        """What each worker tried last."""
        return [f"worker {number}: {text}" for number, text in sorted(self.attempts.items())]

    @property
    def held(self) -> Mapping[str, Addresses]:
        """What names must hold now, if nothing is open."""
        return self._held

    def overlaps(self) -> Iterator[str]:
        """Addresses that two names certainly held at one time."""
        for address, spans in self._spans().items():
            spans.sort()
            for before, after in itertools.pairwise(spans):
                if after[0] < before[1]:
                    yield f"{address} by {before[2]} until {before[1]}, {after[2]} from {after[0]}"

    def hasty(self, prefix: str, rest: float) -> Iterator[str]:
        """Addresses that were handed out before they had rested that many seconds.

        Their rest began when the release was decided, so not before it was sent.
        """
        for address, spans in self._spans().items():
            if not address.startswith(prefix):
                continue
            for before, after in itertools.pairwise(sorted(spans)):
                if after[0] - before[1] < rest - _CLOCKS:
                    yield f"{address} by {before[2]} until {before[1]}, {after[2]} from {after[0]}"

    def _spans(self) -> Mapping[str, list[tuple[float, float, str]]]:
        spans: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
        since: dict[str, float] = {}
        held: dict[str, Addresses] = {}
        for entry in self.entries:
            if entry.action == "allocate":
                since.setdefault(entry.name, entry.ended)
                held[entry.name] = entry.addresses
            elif entry.name in held:
                start = since.pop(entry.name)
                for address in held.pop(entry.name):
                    spans[address].append((start, entry.began, entry.name))
        for name, start in since.items():
            for address in held[name]:
                spans[address].append((start, float("inf"), name))
        return spans

    def about(self, names: Iterable[str]) -> Sequence[str]:
        """The entries of some names, as text."""
        wanted = set(names)
        return [str(entry) for entry in self.entries if entry.name in wanted]

    def write(self, file: Path) -> None:
        """Keeps all of it, one entry a line."""
        file.write_text("".join(json.dumps(asdict(entry)) + "\n" for entry in self.entries))
