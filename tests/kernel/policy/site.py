"""A node in a namespace with endpoints, and packets between them, judged by the real kernel."""

from __future__ import annotations

import functools
import ipaddress
import itertools
import socket
import struct
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeVar

from services.agent.rules.compose import Composer, LocalInterface, TableChange
from services.agent.rules.ending import Ending
from services.agent.rules.firewall import Firewall
from services.agent.rules.render_rules import Logging
from services.agent.rules.resources import NetworkRules, Resource, Unreadable
from services.common.model.failsafe import Failsafe
from services.common.model.names import EndpointName
from services.common.model.network import Address
from services.common.model.rules import (
    EndpointRules,
    GroupBlock,
    GroupId,
    GroupPage,
    NodeRules,
    Profile,
    Protocol,
    RuleSet,
)
from tests.support.netns import Namespace, Namespaces, enter
from tests.support.sctp import init_packet
from tests.support.waiting import becomes

_T = TypeVar("_T")
NUMBERS = {
    Protocol.TCP: 6,
    Protocol.UDP: 17,
    Protocol.SCTP: 132,
    Protocol.ICMP: 1,
    Protocol.ICMPV6: 58,
}
ROUNDS = 40
"""How often it is looked at least before nothing is taken to come."""
_ids = itertools.count(1)


def addresses(number: int) -> tuple[Address, Address]:
    """Of the endpoint with that number."""
    return (
        ipaddress.ip_address(f"10.1.0.{number}"),
        ipaddress.ip_address(f"fd00:1::{number:x}"),
    )


def interface(number: int) -> str:
    return f"romaaaaaaaaaa{chr(97 + number // 26)}{chr(97 + number % 26)}"


@dataclass(eq=False)
class Host:
    """A namespace with addresses that packets are sent from and to."""

    name: EndpointName
    home: Namespace
    interface: str
    addresses: tuple[Address, Address]

    def __post_init__(self) -> None:
        self.ear = self.home.call(_ear)

    @property
    def local(self) -> LocalInterface:
        return LocalInterface(self.interface, self.addresses)

    def address(self, version: int) -> Address:
        return self.addresses[0 if version == 4 else 1]


def _ear() -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
    made.bind(("eth0", 3))
    made.settimeout(0)
    return made


class Site:
    """The node, and what is around it."""

    def __init__(self, made: Namespaces, endpoints: int, logging: Logging | None = None) -> None:
        self.node = made.new("node")
        self.made = made
        for name in ("ipv4.ip_forward", "ipv6.conf.all.forwarding"):
            self.node.sysctl(f"net.{name}", 1)
        self.node.run("ip addr add 192.0.2.1/32 dev lo")
        self.outside = self._host("outside", "up0", 200)
        self.hosts = [
            self._host(f"e{number}", interface(number), number)
            for number in range(1, endpoints + 1)
        ]
        self.composer = Composer(Failsafe(), logging)
        self.firewall = Firewall(enter=lambda: enter(self.node.path))
        self.ending = Ending(self.firewall, enter=lambda: enter(self.node.path))

    def _host(self, name: str, its: str, number: int) -> Host:
        home = self.made.new(name)
        four, six = addresses(number)
        self.node.run(f"ip link add {its} type veth peer name eth0 netns {home.name}")
        home.sysctl("net.ipv6.conf.eth0.accept_dad", 0)
        self.node.sysctl(f"net.ipv6.conf.{its}.accept_dad", 0)
        self.node.sysctl(f"net.ipv4.conf.{its}.proxy_arp", 1)
        self.node.run(
            "ip -batch -",
            stdin=f"""
            link set {its} address ee:ee:ee:ee:ee:ee up
            addr add fe80::1/64 dev {its} nodad
            route add {four}/32 dev {its}
            route add {six}/128 dev {its}
            """,
        )
        home.run(
            "ip -batch -",
            stdin=f"""
            link set eth0 address 02:00:00:00:00:{number:02x} up
            addr add {four}/32 dev eth0
            addr add {six}/128 dev eth0 nodad
            neigh add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0
            neigh add fe80::1 lladdr ee:ee:ee:ee:ee:ee dev eth0
            route add default via 169.254.1.1 dev eth0 onlink
            route add ::/0 via fe80::1 dev eth0
            """,
        )
        self.node.run(
            "ip -batch -",
            stdin=f"""
            neigh replace {four} lladdr 02:00:00:00:00:{number:02x} dev {its}
            neigh replace {six} lladdr 02:00:00:00:00:{number:02x} dev {its}
            """,
        )
        return Host(EndpointName(name), home, its, addresses(number))

    def close(self) -> None:
        for host in (self.outside, *self.hosts):
            host.ear.close()
        self.ending._thread.submit(self.ending.drop).result(30)
        self.ending._thread.shutdown()
        self.do(self.firewall._close)
        self.firewall._thread.shutdown()

    def do(self, work: Callable[[], _T]) -> _T:
        """Does something in the firewall's thread."""
        return self.firewall._thread.submit(work).result(30)

    # Rules.

    def put(self, *resources: Resource, removed: Collection[str] = ()) -> None:
        """Takes in resources by the ids that the service gives them."""
        self.composer.update({identity(one): one for one in resources}, removed)

    def give(self, host: Host, *sets: RuleSet) -> None:
        """Says by which rule sets an endpoint is judged."""
        ordered = sorted(sets, key=lambda one: one.order)
        self.put(*sets, EndpointRules(host.name, host.addresses, profile(ordered)))

    def apply(self) -> TableChange:
        """Brings the kernel up to date, as the agent does."""
        done = self.composer.refresh()
        if done.changes:
            self.do(lambda: self.firewall.nft.apply(done.changes))
        by = self.composer.judge()

        def judge() -> None:
            self.ending.relax(by, done.relaxed)
            self.ending.sweep(by, done.restricted, done.gone)

        self.ending._thread.submit(judge).result(30)
        return done

    def reset(self) -> None:
        """Back to endpoints that are open to everything."""
        self.composer.update({}, list(self.composer._resources))
        for host in self.hosts:
            self.composer.put_local(host.name, host.local)
            self.give(host)
        self.apply()

    def counter(self, name: str) -> int:
        return self.do(self.firewall.counts)[name][0]

    def counts_to(self, name: str, packets: int) -> bool:
        """Whether a counter comes to have so many packets, which may be on their way."""
        return becomes(lambda: self.counter(name) == packets)

    # Packets.

    def arrives(
        self,
        source: Host,
        target: Host,
        protocol: Protocol,
        port: int = 0,
        *,
        version: int = 4,
        icmp: tuple[int, int] = (8, 0),
        claim: Address | None = None,
    ) -> bool:
        """Whether the first packet of a new connection arrives."""
        return self.arrive([(source, target, protocol, port, version, icmp, claim)])[0]

    def arrive(
        self,
        probes: list[tuple[Host, Host, Protocol, int, int, tuple[int, int], Address | None]],
    ) -> list[bool]:
        """The same for many at once: until each has arrived, or long after what arrives has."""
        ears = {id(target.ear): target.ear for _, target, *_ in probes}
        for ear in ears.values():
            _drain(ear)
        sent: list[int] = []
        packets: dict[Host, list[tuple[bytes, Address]]] = {}
        for source, target, protocol, port, version, icmp, claim in probes:
            mark = next(_ids)
            sent.append(mark)
            origin, address = claim or source.address(version), target.address(version)
            packet = _packet(origin, address, protocol, port, icmp, mark)
            packets.setdefault(source, []).append((packet, address))
        for source, items in packets.items():
            source.home.call(functools.partial(_send_all, items))
        heard: set[int] = set()
        deadline, rounds = time.monotonic() + 0.15, 0
        # a process that was not let run has not looked for so long
        while (time.monotonic() < deadline or rounds < ROUNDS) and len(heard) < len(sent):
            rounds += 1
            for ear in ears.values():
                for mark in _drain(ear):
                    heard.add(mark)
            time.sleep(0.002)
        return [mark in heard for mark in sent]


def identity(one: Resource) -> str:
    """A resource's id."""
    match one:
        case EndpointRules():
            return f"endpoint/{one.name}"
        case RuleSet():
            return f"rules/{one.id}"
        case GroupPage():
            return f"page/{one.group}/{one.base:x}"
        case GroupBlock():
            return f"block/{one.group}/{one.cidr}"
        case NodeRules():
            return f"node/{one.name}"
        case NetworkRules():
            return f"network/{one.name}"
        case Unreadable():
            return "unreadable"
    raise AssertionError(one)


def profile(sets: Collection[RuleSet]) -> Profile:
    """Of rule sets in order."""
    return Profile(
        tuple(one.id for one in sets if one.direction.value == "ingress"),
        tuple(one.id for one in sets if one.direction.value == "egress"),
    )


def pages(group: str, members: Collection[Address]) -> list[GroupPage]:
    """A group's pages."""
    found: dict[tuple[int, int], int] = {}
    for member in members:
        number = int(member)
        key = member.max_prefixlen, number & ~63
        found[key] = found.get(key, 0) | 1 << (number & 63)
    return [GroupPage(GroupId(group), base, bits, mask) for (bits, base), mask in found.items()]


def _packet(
    source: Address,
    target: Address,
    protocol: Protocol,
    port: int,
    icmp: tuple[int, int],
    mark: int,
) -> bytes:
    """A whole packet. The mark is in the source port and in what follows."""
    sport = 1024 + mark % 60000
    label = b"rtst" + struct.pack("!I", mark)
    match protocol:
        case Protocol.TCP:
            body = struct.pack("!HHIIBBHHH", sport, port, mark, 0, 5 << 4, 2, 1024, 0, 0) + label
        case Protocol.UDP:
            body = struct.pack("!HHHH", sport, port, 8 + len(label), 0) + label
        case Protocol.SCTP:
            body = init_packet(sport, port, mark, label)
        case Protocol.ICMP | Protocol.ICMPV6:
            body = struct.pack("!BBHHH", *icmp, 0, mark & 0xFFFF, mark >> 16) + label
    number = NUMBERS[protocol]
    pseudo = source.packed + target.packed + struct.pack("!II", len(body), number)
    if protocol in {Protocol.TCP, Protocol.UDP, Protocol.ICMPV6}:
        at = {Protocol.TCP: 16, Protocol.UDP: 6, Protocol.ICMPV6: 2}[protocol]
        body = body[:at] + struct.pack("!H", _checksum(pseudo + body)) + body[at + 2 :]
    elif protocol is Protocol.ICMP:
        body = body[:2] + struct.pack("!H", _checksum(body)) + body[4:]
    if source.version == 4:
        head = struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 0, 0, 64, number, 0,
            source.packed, target.packed,
        )  # fmt: skip
    else:
        head = struct.pack(
            "!IHBB16s16s", 6 << 28, len(body), number, 64, source.packed, target.packed
        )
    return head + body


def _send_all(packets: list[tuple[bytes, Address]]) -> None:
    for packet, target in packets:
        _send(packet, target)


def _send(packet: bytes, target: Address) -> None:
    if target.version == 4:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            raw.sendto(packet, (str(target), 0))
    else:
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as wire:
            wire.sendto(packet, ("eth0", 0x86DD, 0, 0, bytes.fromhex("eeeeeeeeeeee")))


def _drain(ear: socket.socket) -> list[int]:
    """Marks of what was heard."""
    marks = []
    while True:
        try:
            data, where = ear.recvfrom(4096)
        except BlockingIOError:
            return marks
        if where[2] == socket.PACKET_OUTGOING:
            continue
        at = data.find(b"rtst")
        if at >= 0:
            marks.append(struct.unpack_from("!I", data, at + 4)[0])


def _checksum(data: bytes) -> int:
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
