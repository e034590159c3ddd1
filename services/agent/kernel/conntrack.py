"""Connections that the kernel tracks: finds them by address, ends them, and has them go on.

Messages of ctnetlink, packed; numbers are those of linux/netfilter/nfnetlink_conntrack.h. The
kernel has no index by address: it looks at every connection for each question, which costs a tenth
of a microsecond where it leaves one out, and ten where we have to read it.
"""

from __future__ import annotations

import errno
import ipaddress
import struct
from collections.abc import Collection, Iterator, Sequence
from typing import Final, NamedTuple

from services.agent.kernel import codec, netlink
from services.agent.kernel.codec import attributes
from services.agent.kernel.netlink import Netlink
from services.agent.kernel.nftables.expressions import nested
from services.agent.kernel.nftables.expressions import number as big_endian
from services.agent.kernel.nftables.messages import NETFILTER
from services.common.model.network import Address
from services.common.model.rules import Packet, Protocol

_NEW: Final = 1 << 8
_GET: Final = 1 << 8 | 1
_DELETE: Final = 1 << 8 | 2
_ORIGINAL, _REPLY, _STATUS, _PROTOCOL_STATE, _TIMEOUT, _ID, _ZONE, _FILTER = (
    1, 2, 3, 4, 7, 12, 18, 25,
)  # fmt: skip
_SOURCE_FLAG: Final = 1
"""Of a filter: the source's address is compared."""
_EXPECTED: Final = 1
_SEEN_REPLY: Final = 2
_ASSURED: Final = 4
_CONFIRMED: Final = 8
_ESTABLISHED: Final = 3
_LIBERAL: Final = 8
"""Of a TCP connection: its windows are not known."""
RESUMED_SECONDS: Final = 600
"""For which a connection that may go on is waited for."""
_FAMILIES: Final = {4: 2, 6: 10}
_PROTOCOLS: Final = {
    6: Protocol.TCP,
    17: Protocol.UDP,
    132: Protocol.SCTP,
    1: Protocol.ICMP,
    58: Protocol.ICMPV6,
}
_TCP: Final = 6
_WITH_PORTS: Final = frozenset({6, 17, 33, 132, 136})
"""TCP, UDP, DCCP, SCTP, UDP-Lite."""
_LENGTHS: Final = {2: 4, 10: 16}
"""Of addresses, by family."""
_HEADERS: Final = {length: struct.pack("!BBH", family, 0, 0) for family, length in _LENGTHS.items()}
_SHORT: Final = struct.Struct("=H")
_PORTS: Final = struct.Struct("!H6xH")
_FLOW_END: Final = struct.Struct("!BxxxHxxHxx")
_BATCH: Final = 200
FILTERED_MOST: Final = 8
"""Addresses for which the kernel is asked one by one; more, and all connections are read."""


class Opening(NamedTuple):
    """The packet that began a connection, as it arrives: after any translation of its destination.

    Equal ones are judged alike.
    """

    source: bytes
    destination: bytes
    protocol: int
    port: int
    icmp: tuple[int, int] = (0, 0)

    @property
    def packet(self) -> Packet:
        """The same as it is judged."""
        return Packet(
            ipaddress.ip_address(self.source),
            ipaddress.ip_address(self.destination),
            _PROTOCOLS.get(self.protocol, self.protocol),
            self.port,
            *self.icmp,
        )


class TcpConnection(NamedTuple):
    """One that stands, by the packet that began it."""

    source: Address
    destination: Address
    source_port: int
    destination_port: int

    @property
    def flow(self) -> bytes:
        end = _FLOW_END.pack(_TCP, self.source_port, self.destination_port)
        return self.source.packed + self.destination.packed + end


class Connection(NamedTuple):
    """One that the kernel tracks."""

    opening: Opening
    source_port: int
    """0 for protocols without ports."""
    original: bytes
    """Its tuple as the kernel says it, a whole attribute, to name it by."""
    rest: bytes
    """Zone and id, for the same."""
    translated: bool
    """Answers do not come from where it was sent to, or do not go to where it came from."""
    answered: bool
    """There were packets of both sides."""

    @property
    def tcp(self) -> TcpConnection | None:
        """What another kernel can go on with; None: it cannot."""
        if self.opening.protocol != _TCP or self.translated or not self.answered:
            return None
        source, destination = (
            ipaddress.ip_address(each) for each in (self.opening.source, self.opening.destination)
        )
        return TcpConnection(source, destination, self.source_port, self.opening.port)

    @property
    def has_ports(self) -> bool:
        """Says whether its flow can be told from others."""
        return self.opening.protocol in _WITH_PORTS

    @property
    def flow(self) -> bytes:
        """Key in the sets of what was ended: see `Key.FLOW_4`."""
        source, destination, number, port, _ = self.opening
        return source + destination + _FLOW_END.pack(number, self.source_port, port)


def packet_of(flow: bytes) -> Packet:
    """The packet that began a flow."""
    length = (len(flow) - _FLOW_END.size) // 2
    number, _, port = _FLOW_END.unpack_from(flow, 2 * length)
    return Opening(flow[:length], flow[length : 2 * length], number, port).packet


def is_tcp(flow: bytes) -> bool:
    """Says whether a flow is one of TCP."""
    return flow[-_FLOW_END.size] == _TCP


class Conntrack:
    """The connections, in the namespace of the thread that makes this; all methods block."""

    def __init__(self) -> None:
        """Opens the sockets; raises KernelUnavailable."""
        self._questions = Netlink(NETFILTER, options=(netlink.CAP_ACK,))
        self._orders = Netlink(NETFILTER, options=(netlink.CAP_ACK,))

    def close(self) -> None:
        self._questions.close()
        self._orders.close()

    def find(self, addresses: Collection[Address]) -> Iterator[Connection]:
        """Those that were begun by or with somebody of these; of some, twice.

        They may be ended while the next ones are read. Connections that a helper of another one
        expected belong to that, and are left out.

        Raises:
            KernelUnavailable: The kernel does not say.
        """
        for version, family in _FAMILIES.items():
            wanted = frozenset(one.packed for one in addresses if one.version == version)
            for question in _questions(family, wanted):
                for data in self._questions.stream(_GET, question):
                    yield from _parse(data, wanted)

    def end(self, connections: Sequence[Connection]) -> int:
        """Forgets connections; what belongs to them has to begin anew. Says how many there were.

        Raises:
            KernelUnavailable: The socket does not work.
        """
        ended = 0
        for start in range(0, len(connections), _BATCH):
            part = connections[start : start + _BATCH]
            problems = self._orders.execute(
                [
                    codec.message(
                        _DELETE,
                        0,
                        number,
                        _HEADERS[len(one.opening.source)] + one.original + one.rest,
                    )
                    for number, one in enumerate(part)
                ]
            )
            ended += len(part) - len(problems)  # one that is gone already is refused
        return ended

    def resume(self, flows: Sequence[bytes]) -> None:
        """Has TCP connections go on that were ended, or that another kernel tracked so far.

        Either side may be the next to speak, so the kernel has to know who began. One that has
        begun anew meanwhile is left as it is.

        Raises:
            KernelUnavailable: The kernel does not take them.
        """
        for start in range(0, len(flows), _BATCH):
            messages = [
                codec.message(_NEW, codec.CREATE | codec.EXCLUSIVE, number, _established(flow))
                for number, flow in enumerate(flows[start : start + _BATCH])
            ]
            for problem in self._orders.execute(messages).values():
                if problem.number != errno.EEXIST:
                    raise netlink.KernelUnavailable(f"conntrack refuses a connection: {problem}")


def _questions(family: int, wanted: frozenset[bytes]) -> Iterator[bytes]:
    """What the kernel is asked, so that it leaves out what it can."""
    header = _HEADERS[_LENGTHS[family]]
    if len(wanted) > FILTERED_MOST:
        yield header
        return
    for address in wanted:
        # who answers is the destination after any translation
        for flags, part in ((1, _ORIGINAL), (2, _REPLY)):
            source = codec.attribute(1 if len(address) == 4 else 3, address)
            yield (
                header
                + nested(_FILTER, codec.number(flags, _SOURCE_FLAG))
                + nested(part, nested(1, source))
            )


def _parse(data: bytes, wanted: frozenset[bytes]) -> Iterator[Connection]:
    for _, _, start, end in codec.messages(data):
        length = _LENGTHS[data[start]]
        # the kernel puts both tuples first, each with its addresses first: most are none of ours
        reply = start + 4 + (_SHORT.unpack_from(data, start + 4)[0] + 3 & ~3)
        source = data[start + 16 : start + 16 + length]
        destination = data[reply + 12 : reply + 12 + length]
        if source not in wanted and destination not in wanted:
            continue
        found = attributes(data, reply, end)
        status = int.from_bytes(found.get(_STATUS, b""), "big")
        if status & _EXPECTED:
            continue
        ours = _protocol(data, start + 8, reply)
        theirs = _protocol(data, reply + 4, reply + _SHORT.unpack_from(data, reply)[0])
        to = data[start + 20 + length : start + 20 + 2 * length]
        back = data[reply + 16 + length : reply + 16 + 2 * length]
        name = [codec.attribute(kind, found[kind]) for kind in (_ID, _ZONE) if kind in found]
        yield Connection(
            # where it really goes: who answers, and from which port
            Opening(source, destination, ours.number, theirs.source, ours.icmp),
            ours.source,
            data[start + 4 : reply],
            b"".join(name),
            (to, back) != (destination, source)
            or (ours.source, ours.destination) != (theirs.destination, theirs.source),
            bool(status & _SEEN_REPLY),
        )


class _Protocol(NamedTuple):
    """What a tuple says of layer 4."""

    number: int
    source: int = 0
    destination: int = 0
    icmp: tuple[int, int] = (0, 0)


def _protocol(data: bytes, start: int, end: int) -> _Protocol:
    """Of a tuple whose addresses begin at `start`."""
    start += _SHORT.unpack_from(data, start)[0] + 3 & ~3
    number = data[start + 8]
    if number in _WITH_PORTS:
        # num, padded; source port, padded; destination port
        return _Protocol(number, *_PORTS.unpack_from(data, start + 16))
    found = attributes(data, start + 4, end)
    for kind, code in ((5, 6), (8, 9)):  # of ICMP, and of its version 6
        if kind in found:
            return _Protocol(number, icmp=(found[kind][0], found[code][0]))
    return _Protocol(number)


def _established(flow: bytes) -> bytes:
    """Body of the message that makes a connection of TCP."""
    length = (len(flow) - _FLOW_END.size) // 2
    source, destination = flow[:length], flow[length : 2 * length]
    _, ours, theirs = _FLOW_END.unpack_from(flow, 2 * length)
    state = b"".join(
        (
            codec.attribute(1, bytes((_ESTABLISHED,))),
            *(codec.attribute(kind, bytes((_LIBERAL, _LIBERAL))) for kind in (4, 5)),
        )
    )
    return (
        _HEADERS[length]
        + nested(_ORIGINAL, _pack_tuple(source, destination, ours, theirs))
        + nested(_REPLY, _pack_tuple(destination, source, theirs, ours))
        + big_endian(_STATUS, _SEEN_REPLY | _ASSURED | _CONFIRMED)
        + big_endian(_TIMEOUT, RESUMED_SECONDS)
        + nested(_PROTOCOL_STATE, nested(1, state))
    )


def _pack_tuple(source: bytes, destination: bytes, ours: int, theirs: int) -> bytes:
    first = 1 if len(source) == 4 else 3
    addresses = codec.attribute(first, source) + codec.attribute(first + 1, destination)
    protocol = (
        codec.attribute(1, bytes((_TCP,)))
        + codec.attribute(2, struct.pack("!H", ours))
        + codec.attribute(3, struct.pack("!H", theirs))
    )
    return nested(1, addresses) + nested(2, protocol)
