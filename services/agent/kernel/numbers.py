"""Numbers of ours in the kernel: whatever has them is ours, whatever has not is left alone.

Table numbers and nexthop ids stand for names. They are drawn from a hash of the name, so that an
agent that lost its disk finds the same ones again in nearly every case, and kept on disk for when
two names had the same hash. Were they lost even so, the kernel would only be brought from one
correct state to another.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

PROTOCOL: Final = 114
"""Of routes, nexthops, rules and proxies; not in iproute2's rt_protos, nor any daemon's known to
us (Calico has 80, Cilium 202, FRR 186 to 199)."""

FIRST_TABLE: Final = 114_000
TABLES: Final = 1_000

FIRST_PRIORITY: Final = 11_400
"""Rules: before main's 32766, after the few that systems put first."""
UNMARKED_PRIORITY: Final = FIRST_PRIORITY + 1
BESIDE_PRIORITY: Final = FIRST_PRIORITY + 2
FROM_DEVICE_PRIORITY: Final = FIRST_PRIORITY + 3
FROM_ENDPOINT_PRIORITY: Final = FIRST_PRIORITY + 4
TO_DEVICE_PRIORITY: Final = FIRST_PRIORITY + 5
NOT_STEERED_PRIORITY: Final = FIRST_PRIORITY + 6
OWN_ADDRESS_PRIORITY: Final = FIRST_PRIORITY + 10
TRANSLATED_PRIORITY: Final = FIRST_PRIORITY + 11
NEAR_WAY_PRIORITY: Final = FIRST_PRIORITY + 12
WAY_PRIORITY: Final = FIRST_PRIORITY + 13
FOR_NETWORK_PRIORITY: Final = FIRST_PRIORITY + 15
FOR_OTHERS_PRIORITY: Final = FIRST_PRIORITY + 16
INCOMING_PRIORITY: Final = FIRST_PRIORITY + 20
ASTRAY_PRIORITY: Final = FIRST_PRIORITY + 21
NOWHERE_PRIORITY: Final = FIRST_PRIORITY + 22
NO_WAY_PRIORITY: Final = FIRST_PRIORITY + 25
OUTGOING_PRIORITY: Final = FIRST_PRIORITY + 30
PASSED_PRIORITY: Final = FIRST_PRIORITY + 40
LAST_PRIORITY: Final = FIRST_PRIORITY + 99

FIRST_NEXTHOP: Final = 1 << 30
NEXTHOPS: Final = 1 << 28

FIRST_WAY: Final = 1
WAYS: Final = 15
"""Interfaces to networks by which replies of translated connections can go: as many as the mark
has values, see `services.agent.kernel.marks`."""

ALIAS: Final = "romana"
"""Begins the alias of every link that we make."""
LINK_GROUP: Final = 0x726F6D61
"""Of VLAN links that we make: "roma"."""


def our_table(table: int) -> bool:
    """Whether a table is in our range."""
    return FIRST_TABLE <= table < FIRST_TABLE + TABLES


def our_priority(priority: int) -> bool:
    """Whether a rule's priority is in our range."""
    return FIRST_PRIORITY <= priority <= LAST_PRIORITY


def our_nexthop(number: int) -> bool:
    """Whether a nexthop id is in our range."""
    return FIRST_NEXTHOP <= number < FIRST_NEXTHOP + NEXTHOPS


@dataclass(frozen=True, slots=True)
class Numbers:
    """What is assigned."""

    tables: Mapping[str, int]
    """By network."""
    nexthops: Mapping[str, int]
    """By `network/node`."""
    ways: Mapping[str, int] = field(default_factory=dict)
    """By interface; more than there are numbers for have none."""

    @classmethod
    def none(cls) -> Numbers:
        """Nothing yet."""
        return cls({}, {})

    def assigned(self, networks: Iterable[str], peers: Iterable[str]) -> Numbers:
        """The same names keep their numbers, new ones get some, others lose theirs.

        Raises:
            OverflowError: There are more names than numbers.
        """
        return Numbers(
            _assign(self.tables, networks, FIRST_TABLE, TABLES),
            _assign(self.nexthops, peers, FIRST_NEXTHOP, NEXTHOPS),
            self.ways,
        )

    def with_ways(self, interfaces: Iterable[str]) -> Numbers:
        """The same with ways of these interfaces: of those that have one already first."""
        first = sorted(set(interfaces), key=lambda name: (name not in self.ways, name))
        ways = _assign(self.ways, first[:WAYS], FIRST_WAY, WAYS)
        return self if ways is self.ways else replace(self, ways=ways)


def _assign(
    before: Mapping[str, int], names: Iterable[str], first: int, count: int
) -> Mapping[str, int]:
    """Hash, then the next free number. Sorted, to be the same whatever the order."""
    wanted = set(names)
    if wanted == before.keys():
        return before
    result = {name: before[name] for name in wanted & before.keys()}
    taken = set(result.values())
    if len(wanted) > count:
        raise OverflowError(f"{len(wanted)} names for {count} numbers")
    for name in sorted(wanted - result.keys()):
        number = first + zlib.crc32(name.encode()) % count
        while number in taken:
            number = first + (number + 1 - first) % count
        result[name] = number
        taken.add(number)
    return result
