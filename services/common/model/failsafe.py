"""What policies on nodes never cut off, so that a mistake in one can be mended. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from services.common.model.rules import MAX_PORT, Direction, Packet, Protocol

_PORT = re.compile(r"(tcp|udp|sctp)/([0-9]{1,5})", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Port:
    """A port that stays open."""

    protocol: Protocol
    number: int

    def __str__(self) -> str:
        return f"{self.protocol.value}/{self.number}"


@dataclass(frozen=True, slots=True)
class Failsafe:
    """What is let through on a node with policies of its own, before they are asked."""

    inbound: tuple[Port, ...] = ()
    """Ports of the node."""
    outbound: tuple[Port, ...] = ()
    """Ports elsewhere."""

    def port_of(self, direction: Direction, packet: Packet) -> Port | None:
        """The port by which a connection of the node is let through; None: policies are asked."""
        ports = self.inbound if direction is Direction.INGRESS else self.outbound
        wanted = (packet.protocol, packet.port)
        return next((port for port in ports if (port.protocol, port.number) == wanted), None)


NOTHING: Final = Failsafe()


def parse_port(text: str) -> Port:
    """Reads `tcp/22` and such; raises ValueError."""
    match = _PORT.fullmatch(text)
    if match is None or not 1 <= int(match[2]) <= MAX_PORT:
        raise ValueError(f"{text!r} is not a protocol (tcp, udp, sctp) and a port: tcp/22")
    return Port(Protocol(match[1]), int(match[2]))


def parse_ports(items: Iterable[str]) -> tuple[Port, ...]:
    """Reads several, in order and each once; raises ValueError."""
    return tuple(sorted({parse_port(item) for item in items}))
