"""Connections that the kernel tracks: read them, and end those that are no longer allowed.

Messages of ctnetlink, packed; numbers are those of linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from services.agent.kernel import netlink
from services.agent.kernel.netlink import Netlink, attributes
from services.agent.kernel.nftables.expressions import nested
from services.agent.kernel.nftables.messages import NETFILTER
from services.common.model.network import Address
from services.common.model.rules import Packet, Protocol

_GET: Final = 1 << 8 | 1
_DELETE: Final = 1 << 8 | 2
_ORIGINAL, _REPLY, _STATUS, _ZONE, _ID = 1, 2, 3, 18, 12
_EXPECTED: Final = 1
_FAMILIES: Final = (2, 10)
_PROTOCOLS: Final = {
    6: Protocol.TCP,
    17: Protocol.UDP,
    132: Protocol.SCTP,
    1: Protocol.ICMP,
    58: Protocol.ICMPV6,
}
_BATCH: Final = 200


@dataclass(frozen=True, slots=True)
class Connection:
    """One that the kernel tracks."""

    packet: Packet
    """That began it, as it arrives: after any translation of its destination."""
    family: int
    original: bytes
    """Its tuple as the kernel says it, to name it by."""
    rest: bytes
    """Zone and id, for the same."""
    source_port: int
    """0 for protocols without ports."""

    @property
    def flows(self) -> tuple[bytes, bytes]:
        """Keys of both directions in the sets of what is cut: see `Key.FLOW_4`."""
        packet = self.packet
        protocol = (
            packet.protocol if isinstance(packet.protocol, int) else _NUMBERS[packet.protocol]
        )
        number = bytes((protocol, 0, 0, 0))
        ours = struct.pack("!HH", self.source_port, 0)
        theirs = struct.pack("!HH", packet.port, 0)
        source, destination = packet.source.packed, packet.destination.packed
        return (
            source + destination + number + ours + theirs,
            destination + source + number + theirs + ours,
        )


_NUMBERS: Final = {protocol: number for number, protocol in _PROTOCOLS.items()}


class Conntrack:
    """The connections, in the namespace of the thread that makes this; all methods block."""

    def __init__(self) -> None:
        """Opens the socket; raises KernelUnavailable."""
        self._netlink = Netlink(NETFILTER, options=(netlink.CAP_ACK,))

    def close(self) -> None:
        """Closes the socket."""
        self._netlink.close()

    def find(self, wanted: Callable[[Packet], bool]) -> list[Connection]:
        """Those that were begun by such packets.

        Connections that a helper of another one expected belong to that, and are left out.

        Raises:
            KernelUnavailable: The kernel does not say.
        """
        return [
            connection
            for family in _FAMILIES
            for data in self._netlink.dump(_GET, struct.pack("!BBH", family, 0, 0))
            for connection in _parse(data, family)
            if wanted(connection.packet)
        ]

    def end(self, connections: Sequence[Connection]) -> int:
        """Forgets connections; what belongs to them has to begin anew. Says how many there were.

        Raises:
            KernelUnavailable: The socket does not work.
        """
        ended = 0
        for start in range(0, len(connections), _BATCH):
            part = connections[start : start + _BATCH]
            problems = self._netlink.execute(
                [
                    netlink.message(
                        _DELETE,
                        0,
                        number,
                        struct.pack("!BBH", one.family, 0, 0)
                        + nested(_ORIGINAL, one.original)
                        + one.rest,
                    )
                    for number, one in enumerate(part)
                ]
            )
            ended += len(part) - len(problems)  # one that is gone already is refused
        return ended


def _parse(data: bytes, family: int) -> Iterator[Connection]:
    for _, _, start, end in netlink.messages(data):
        found = attributes(data, start + 4, end)
        original = found.get(_ORIGINAL)
        if original is None or int.from_bytes(found.get(_STATUS, b""), "big") & _EXPECTED:
            continue
        addresses, protocol = _tuple(original)
        back, answers = _tuple(found.get(_REPLY, original))
        rest = b"".join(
            netlink.attribute(kind, found[kind]) for kind in (_ID, _ZONE) if kind in found
        )
        number = protocol.get(1, b"\0")[0]
        # where it really goes: who answers, and from which port
        packet = Packet(
            _address(addresses, 1, 3),
            _address(back, 1, 3),
            _PROTOCOLS.get(number, number),
            _port(answers, 2),
            *_icmp(protocol),
        )
        yield Connection(packet, family, original, rest, _port(protocol, 2))


def _tuple(data: bytes) -> tuple[Mapping[int, bytes], Mapping[int, bytes]]:
    """Attributes of its addresses and of its protocol."""
    parts = attributes(data, 0, len(data))
    addresses, protocol = parts.get(1, b""), parts.get(2, b"")
    return attributes(addresses, 0, len(addresses)), attributes(protocol, 0, len(protocol))


def _address(found: Mapping[int, bytes], four: int, six: int) -> Address:
    return ipaddress.ip_address(found[four] if four in found else found[six])


def _port(found: Mapping[int, bytes], kind: int) -> int:
    return int.from_bytes(found.get(kind, b""), "big")


def _icmp(found: Mapping[int, bytes]) -> tuple[int, int]:
    """Type and code of the packet that began it: 5 and 6, of version 6 8 and 9."""
    for kind, code in ((5, 6), (8, 9)):
        if kind in found:
            return found[kind][0], found[code][0]
    return 0, 0
