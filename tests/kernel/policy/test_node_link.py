"""A node that its own policies deny everything goes on being a neighbour on its links."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv6Address

import pytest

from services.common.model.names import NodeName
from services.common.model.rules import Action, CompiledRule, Direction, NodeRules, Tier
from tests.kernel.policy.rules import rules
from tests.kernel.policy.site import Site, _checksum, profile
from tests.support.waiting import becomes

GROUP = IPv6Address("ff02::1:ff00:99")
"""A neighbour's solicitations come by such groups, which switches send to who has said so alone."""
REPORTS = frozenset({131, 143})
ROUTER_ALERT = struct.pack("!BBBBHBB", 58, 0, 5, 2, 0, 1, 0)


@pytest.fixture
def ear(site: Site) -> Iterator[socket.socket]:
    """What comes to the machine outside."""

    def listen() -> socket.socket:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x86DD))
        made.bind(("eth0", 0x86DD))
        made.settimeout(0)
        return made

    made = site.outside.home.call(listen)
    yield made
    made.close()


@pytest.fixture
def denied(site: Site) -> Site:
    """The node is denied everything."""
    deny = CompiledRule(0, Action.DENY, any_peer=True)
    sets = [rules(f"no-{one}", deny, direction=one, tier=Tier.ADMIN) for one in Direction]
    site.put(*sets, NodeRules(NodeName("node"), profile(sets)))
    site.apply()
    return site


def joined(site: Site) -> socket.socket:
    """The node is in the group as long as this is open."""

    def join() -> socket.socket:
        made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        index = struct.pack("=I", socket.if_nametoindex("up0"))
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, GROUP.packed + index)
        return made

    return site.node.call(join)


def reported(ear: socket.socket) -> bool:
    """Whether the node says that it is in the group."""
    try:
        while True:
            data, (_, _, kind, *_) = ear.recvfrom(2048)
            has_report = data[6] == 0 and data[48] in REPORTS and GROUP.packed in data[48:]
            if kind != socket.PACKET_OUTGOING and has_report:
                return True
    except BlockingIOError:
        return False


def ask(site: Site) -> None:
    """As a switch does now and then: who does not answer gets no more of the group."""
    source, all_nodes = IPv6Address("fe80::5"), IPv6Address("ff02::1")
    body = struct.pack("!BBHHH16s", 130, 0, 0, 1, 0, bytes(16))
    pseudo = source.packed + all_nodes.packed + struct.pack("!II", len(body), 58)
    body = body[:2] + struct.pack("!H", _checksum(pseudo + body)) + body[4:]
    size = len(ROUTER_ALERT) + len(body)
    head = struct.pack("!IHBB16s16s", 6 << 28, size, 0, 1, source.packed, all_nodes.packed)

    def send() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as wire:
            where = ("eth0", 0x86DD, 0, 0, b"\x33\x33\x00\x00\x00\x01")
            wire.sendto(head + ROUTER_ALERT + body, where)

    site.outside.home.call(send)


def test_it_says_in_which_groups_it_is(denied: Site, ear: socket.socket) -> None:
    with joined(denied):
        assert becomes(lambda: reported(ear))


def test_it_answers_who_asks_in_which_groups_it_is(denied: Site, ear: socket.socket) -> None:
    with joined(denied):
        assert becomes(lambda: reported(ear))

        def answers() -> bool:
            ask(denied)
            return reported(ear)

        assert becomes(answers)
