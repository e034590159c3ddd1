"""One round of enforcement: the table `inet romana` is made what it shall be.

Runs in the firewall's thread, on values only; `services.agent.rules.enforce` makes the task of
what is asked for, and keeps what comes out for the next round.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from services.agent.kernel.nftables import table_names
from services.agent.kernel.nftables.table import Changes, Found, Image, Shape
from services.agent.kernel.nftables.table_diff import diff
from services.agent.rules.render import FIXED_SETS

Counts: TypeAlias = Mapping[str, tuple[int, int]]
"""Packets and bytes by counter."""


class Table(Protocol):
    """What a round needs of the kernel, or of a fake."""

    def others(self) -> int:
        """A number that is another one when somebody else has changed any table."""

    def read(self) -> Found | None:
        """What there is; None: no table."""

    def apply(self, changes: Changes, /) -> None:
        """Does all of it, or, if it raises, nothing that counts."""

    def add(self, name: str, keys: tuple[bytes, ...], shape: Shape, /) -> None:
        """Adds elements to a set, in which some may be already."""

    def counts(self) -> Counts:
        """What the table has counted."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a round starts from. Nobody else has what is in it."""

    changes: Changes
    """What is new since the last round, if that left the table as it should be."""
    image: Image | None
    """All of it: the table is read and compared with this. None: it need not be read."""
    known: bool
    """It is known what the rules are. If not, a table that is there stays as it is."""
    closed: tuple[bytes, ...]
    """Interfaces that must not let anything through while the rules are not known."""
    others: int | None
    """What the table said of others when it was read; it is read anew if it says something else.
    None: it is not asked."""
    count: bool
    """Counters are wanted."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    strange: bool = False
    """Somebody else has changed something: the table has to be read."""
    stands: bool = False
    """There is a table that is not of these rules, since they are not known."""
    others: int | None = None
    """What the table says of others, if it was read."""
    applied: float | None = None
    """Seconds that a transaction took; None: there was nothing to change."""
    repaired: bool = False
    """The table that was there was not as it should be."""
    counts: Counts | None = None


def perform(table: Table, task: Task) -> Outcome:
    """Makes the table what it shall be; raises KernelUnavailable, and then all may be as before."""
    if task.image is not None:
        return _compare(table, task, task.image)
    if not task.known:
        table.add(table_names.INTERFACES, task.closed, FIXED_SETS[table_names.INTERFACES])
        return Outcome(stands=True)
    seconds = _apply(table, task.changes)
    strange = task.others is not None and table.others() != task.others
    return Outcome(strange=strange, applied=seconds, counts=table.counts() if task.count else None)


def _compare(table: Table, task: Task, image: Image) -> Outcome:
    others = table.others()
    found = table.read()
    if found is not None and not task.known:
        table.add(table_names.INTERFACES, task.closed, FIXED_SETS[table_names.INTERFACES])
        return Outcome(stands=True, others=others)
    changes = diff(image, found or Found())
    seconds = _apply(table, changes)
    return Outcome(
        others=others,
        applied=seconds,
        repaired=found is not None and seconds is not None,
        counts=table.counts() if task.count else None,
    )


def _apply(table: Table, changes: Changes) -> float | None:
    if not changes:
        return None
    begun = time.monotonic()
    table.apply(changes)
    return time.monotonic() - begun
