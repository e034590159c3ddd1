"""What policies on nodes never cut off, so that a mistake in one can be mended. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from services.agent.kernel.nftables.table import Is, Key, Statement
from services.agent.rules.render_rules import NUMBERS
from services.common.model.rules import MAX_PORT, Protocol

INBOUND: Final = ("tcp/22", "udp/68", "tcp/2379", "tcp/2380", "tcp/9610", "tcp/9620", "tcp/9630")
"""ssh, DHCP's answers, etcd, topology, ipam, policy."""
OUTBOUND: Final = (
    "udp/53", "tcp/53", "udp/67", "tcp/2379", "tcp/2380", "tcp/9610", "tcp/9620", "tcp/9630",
)  # fmt: skip
"""DNS, DHCP, etcd, topology, ipam, policy."""

_PORT = re.compile(r"(tcp|udp|sctp)/([0-9]{1,5})")


@dataclass(frozen=True, slots=True, order=True)
class Port:
    """A port that stays open."""

    protocol: Protocol
    number: int

    def statements(self) -> tuple[Statement, ...]:
        """Matches what is for it."""
        return (
            Is(Key.PROTOCOL, bytes((NUMBERS[self.protocol],))),
            Is(Key.PORT, self.number.to_bytes(2, "big")),
        )


@dataclass(frozen=True, slots=True)
class Failsafe:
    """What is let through on a node with policies of its own, before they are asked."""

    inbound: tuple[Port, ...] = ()
    outbound: tuple[Port, ...] = ()


def parse_ports(items: Iterable[str]) -> tuple[Port, ...]:
    """Reads `tcp/22` and such; raises ValueError."""
    found = set()
    for item in items:
        match = _PORT.fullmatch(item)
        if match is None or not 1 <= int(match[2]) <= MAX_PORT:
            raise ValueError(f"{item!r} is not a protocol (tcp, udp, sctp) and a port: tcp/22")
        found.add(Port(Protocol(match[1]), int(match[2])))
    return tuple(sorted(found))
