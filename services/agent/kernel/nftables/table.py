"""What the table `inet romana` shall hold: chains with rules, sets, maps, counters. Values only.

A rule is a sequence of statements, each of which may end it. What the kernel wants to be told of
them is in `services.agent.kernel.nftables.expressions`.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

TABLE: Final = "romana"
_REVISION: Final = b"1"
"""Of how statements are put into the kernel's terms: another one has all rules replaced."""


class Key(enum.Enum):
    """What of a packet is looked at."""

    FAMILY = enum.auto()
    """One byte: 2 or 10."""
    PROTOCOL = enum.auto()
    """One byte: that of layer 4."""
    MARK = enum.auto()
    CONNECTION_STATE = enum.auto()
    """Four bytes, in the machine's order, as the mark and the following two."""
    CONNECTION_STATUS = enum.auto()
    CONNECTION_MARK = enum.auto()
    CONNECTION_DIRECTION = enum.auto()
    """One byte: 0 as it was begun, 1 back."""
    INPUT = enum.auto()
    """Name of the interface, 16 bytes."""
    OUTPUT = enum.auto()
    SOURCE_4 = enum.auto()
    SOURCE_6 = enum.auto()
    DESTINATION_4 = enum.auto()
    DESTINATION_6 = enum.auto()
    DESTINATION_KIND = enum.auto()
    """What routing says of the destination's address: four bytes, in the machine's order."""
    HOP_LIMIT = enum.auto()
    """Of IPv6: one byte."""
    PORT = enum.auto()
    """Destination's: two bytes."""
    SOURCE_PORT = enum.auto()
    TCP_FLAGS = enum.auto()
    """One byte; only of TCP."""
    SCTP_CHUNK = enum.auto()
    """Type of the first one: one byte; only of SCTP."""
    ICMP_TYPE = enum.auto()
    """Of both versions: one byte."""
    ICMP_CODE = enum.auto()
    INPUT_SOURCE_4 = enum.auto()
    """Interface and source address."""
    INPUT_SOURCE_6 = enum.auto()
    THROUGH = enum.auto()
    """Interfaces that it came in by and goes out by."""
    FLOW_4 = enum.auto()
    """Source, destination, protocol and both ports, each padded to four bytes."""
    FLOW_6 = enum.auto()
    BACK_4 = enum.auto()
    """The flow of what it would be an answer to: the same, turned round."""
    BACK_6 = enum.auto()
    INPUT_ETHER = enum.auto()
    """Interface and MAC address that it came from, padded to eight bytes."""
    NEXTHOP_4 = enum.auto()
    """Where it is sent: the next hop's address, or its own destination."""
    NEXTHOP_6 = enum.auto()
    SHARE_4 = enum.auto()
    """Which of SHARES its addresses and ports fall into, four bytes in the machine's order: the
    same on every node."""
    SHARE_6 = enum.auto()
    SHARE_BACK_4 = enum.auto()
    """The share of what it is an answer to."""
    SHARE_BACK_6 = enum.auto()


SHARES: Final = 64
"""Into which connections are divided by a hash."""


@dataclass(frozen=True, slots=True)
class Is:
    """Compares."""

    key: Key
    value: bytes
    mask: bytes = b""
    """What of it; empty: all."""
    inverted: bool = False


@dataclass(frozen=True, slots=True)
class Between:
    """Compares with a range, its ends included."""

    key: Key
    first: bytes
    last: bytes


@dataclass(frozen=True, slots=True)
class In:
    """Looks into a set."""

    key: Key
    name: str
    inverted: bool = False


@dataclass(frozen=True, slots=True)
class Renew:
    """Has an element of a set with a timeout stay as long as from new."""

    key: Key
    name: str


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Goes where a map says; on, if it says nothing."""

    key: Key
    name: str
    mask: bytes = b""
    """What of the key is looked up; empty: all."""


@dataclass(frozen=True, slots=True)
class Count:
    """Counts in a named counter."""

    name: str


@dataclass(frozen=True, slots=True)
class Limit:
    """Holds for so many packets a second."""

    rate: int
    burst: int = 5


@dataclass(frozen=True, slots=True)
class Log:
    """Sends the packet to a group of nflog."""

    group: int
    prefix: str


class Verdict(enum.Enum):
    """What becomes of a packet."""

    ACCEPT = enum.auto()
    DROP = enum.auto()
    RETURN = enum.auto()


@dataclass(frozen=True, slots=True)
class Jump:
    """Goes to a chain, and comes back."""

    chain: str


@dataclass(frozen=True, slots=True)
class Goto:
    """Goes to a chain, and does not come back."""

    chain: str


@dataclass(frozen=True, slots=True)
class Masquerade:
    """Gives the packet the node's address."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Sends a copy to an address, in a table of its family alone."""

    address: bytes


@dataclass(frozen=True, slots=True)
class Mark:
    """Sets some bits of the packet's mark."""

    value: int
    mask: int
    """Which."""


@dataclass(frozen=True, slots=True)
class MarkConnection:
    """Sets some bits of the connection's mark."""

    value: int
    mask: int


Statement: TypeAlias = (
    Is
    | Between
    | In
    | Renew
    | Dispatch
    | Count
    | Limit
    | Log
    | Verdict
    | Jump
    | Goto
    | Masquerade
    | Duplicate
    | Mark
    | MarkConnection
)


@dataclass(frozen=True, slots=True)
class Rule:
    """Statements, in order."""

    statements: tuple[Statement, ...]
    note: str = ""
    """For people who list the table."""

    @property
    def tag(self) -> str:
        """By which it is known again: the rest of a rule is not read back."""
        digest = hashlib.blake2b(_REVISION, digest_size=8)
        digest.update(repr(self.statements).encode())
        return digest.hexdigest()


def noted(note: str, *statements: Statement) -> Rule:
    """A rule of these statements, with a note."""
    return Rule(statements, note)


class Hook(enum.IntEnum):
    """Where a packet meets a base chain."""

    PREROUTING = 0
    INPUT = 1
    FORWARD = 2
    OUTPUT = 3
    POSTROUTING = 4


@dataclass(frozen=True, slots=True)
class Base:
    """What makes a chain a base chain. All accept what they do not drop."""

    hook: Hook
    priority: int
    kind: str = "filter"


@dataclass(frozen=True, slots=True)
class Chain:
    """Rules in order."""

    rules: tuple[Rule, ...]
    base: Base | None = None


class Family(enum.IntEnum):
    """Whose packets a table sees."""

    INET = 1
    """Both."""
    IP = 2
    IP6 = 10

    @property
    def word(self) -> str:
        """As nft calls it."""
        return self.name.lower()


class TableName(NamedTuple):
    """A table."""

    name: str
    family: Family = Family.INET

    def __str__(self) -> str:
        return f"{self.family.word} {self.name}"


RULES_TABLE: Final = TableName(TABLE)
"""That of policy."""


class Element(enum.Enum):
    """What a set holds: by name of nft's type."""

    ADDRESS_4 = "ipv4_addr"
    ADDRESS_6 = "ipv6_addr"
    PORT = "inet_service"
    INTERFACE = "ifname"
    INTERFACES = "ifname . ifname"
    INTERFACE_ADDRESS_4 = "ifname . ipv4_addr"
    INTERFACE_ADDRESS_6 = "ifname . ipv6_addr"
    INTERFACE_ETHER = "ifname . ether_addr"
    MARK = "mark"
    FLOW_4 = "ipv4_addr . ipv4_addr . inet_proto . inet_service . inet_service"
    FLOW_6 = "ipv6_addr . ipv6_addr . inet_proto . inet_service . inet_service"


@dataclass(frozen=True, slots=True)
class Shape:
    """What kind of set it is."""

    element: Element
    is_map: bool = False
    """To verdicts: its elements' values are names of chains."""
    is_interval: bool = False
    """Its elements are bounds: an address or port, and a last byte, which is 1 at a bound that is
    not in it any more."""
    timeout: int = 0
    """Seconds, after which an element goes by itself; such sets are not read back."""
    size: int = 0
    """The most it takes; 0: no limit."""


Elements: TypeAlias = dict[bytes, str]
"""Elements with the chain that they lead to; in a set, with an empty text."""


@dataclass(slots=True)
class Image:
    """A whole table."""

    chains: dict[str, Chain] = field(default_factory=dict)
    sets: dict[str, Shape] = field(default_factory=dict)
    counters: set[str] = field(default_factory=set)
    elements: dict[str, Elements] = field(default_factory=dict)
    """By set; every set is there."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the kernel holds of it."""

    chains: Mapping[str, tuple[Base | None, tuple[str, ...]]] = field(default_factory=dict)
    """Tags of the rules in order; empty text: a rule that is not ours."""
    sets: Mapping[str, Shape] = field(default_factory=dict)
    counters: frozenset[str] = frozenset()
    elements: Mapping[str, Mapping[bytes, str]] = field(default_factory=dict)


@dataclass(slots=True)
class Changes:
    """What one transaction does. Applied in the order of dependencies, whatever order it is in."""

    remake: bool = False
    """The table is removed first."""
    counters: set[str] = field(default_factory=set)
    sets: dict[str, Shape] = field(default_factory=dict)
    chains: dict[str, Chain] = field(default_factory=dict)
    """Those that are new, and those that have other rules."""
    new_chains: set[str] = field(default_factory=set)
    shapes: dict[str, Shape] = field(default_factory=dict)
    """Of the sets in `added` and `removed`."""
    added: dict[str, Elements] = field(default_factory=dict)
    removed: dict[str, Elements] = field(default_factory=dict)
    dropped_chains: list[str] = field(default_factory=list)
    dropped_sets: list[str] = field(default_factory=list)
    dropped_counters: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(
            self.remake
            or self.counters
            or self.sets
            or self.chains
            or any(self.added.values())
            or any(self.removed.values())
            or self.dropped_chains
            or self.dropped_sets
            or self.dropped_counters
        )


def interface_key(name: str) -> bytes:
    """As the kernel compares names."""
    return name.encode().ljust(16, b"\0")
