"""What all drivers have in common.

A driver has three verbs: `read()` what is ours, `apply(step)` with the problems by key, and
`owns(..)` of what it parsed. Its keys and values are those of `services.agent.kernel.state`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from services.agent.kernel.diff import KindChange
from services.agent.kernel.netlink import Netlink, Problem
from services.agent.kernel.state import Key, Kind, Objects

Problems = Mapping[Key, Problem]


class Driver(Protocol):
    """Reads and writes one kind of objects, in the kernel's thread."""

    kind: Kind

    def read(self) -> Objects:
        """What is ours."""

    def apply(self, step: KindChange) -> Problems:
        """Performs operations of this kind; the rest goes on when one fails."""


def run(
    netlink: Netlink,
    keys: list[Key],
    messages: list[bytes],
    *,
    harmless: frozenset[int] = frozenset(),
) -> dict[Key, Problem]:
    """Executes one message per key; refusals with a harmless errno count as done."""
    return {
        keys[index]: problem
        for index, problem in netlink.execute(messages).items()
        if problem.number not in harmless
    }
