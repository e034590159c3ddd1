"""IPv6 beside an endpoint's addresses: only the link-local address of its own MAC address."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv6Address

from services.agent.rules.compose import LocalInterface
from tests.kernel.policy.site import Host, Site, _checksum
from tests.support.waiting import becomes

NODE = IPv6Address("fe80::1")
"""The node's end of every link."""
OWN = IPv6Address("fe80::ff:fe00:1")
"""Of the first endpoint's MAC address, 02:00:00:00:00:01."""
GROUP = IPv6Address("ff02::1:ff00:1")
NOBODY = IPv6Address("::")


def solicit(host: Host, source: IPv6Address) -> None:
    """Asks the node for its link-layer address, so that it notes who asks."""
    mac = bytes.fromhex("020000000001")
    option = b"" if source == NOBODY else struct.pack("!BB6s", 1, 1, mac)
    body = struct.pack("!BBHI16s", 135, 0, 0, 0, NODE.packed) + option
    pseudo = source.packed + GROUP.packed + struct.pack("!II", len(body), 58)
    body = body[:2] + struct.pack("!H", _checksum(pseudo + body)) + body[4:]
    head = struct.pack("!IHBB16s16s", 6 << 28, len(body), 58, 255, source.packed, GROUP.packed)

    def send() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as wire:
            wire.sendto(head + body, ("eth0", 0x86DD, 0, 0, b"\x33\x33" + GROUP.packed[12:]))

    host.home.call(send)


def neighbours(site: Site, host: Host) -> str:
    return site.node.run(f"ip -6 neigh show dev {host.interface}")


def comes_to_know(site: Site, host: Host, address: str) -> bool:
    return becomes(lambda: address in neighbours(site, host))


def put(site: Site, host: Host, *, mac: str, families: int = 2) -> None:
    site.composer.put_local(
        host.name, LocalInterface(host.interface, host.addresses[:families], mac)
    )
    site.apply()


def test_its_own_is_let_through(site: Site) -> None:
    host = site.hosts[0]
    put(site, host, mac="02:00:00:00:00:01")
    solicit(host, OWN)
    assert comes_to_know(site, host, str(OWN))


def test_made_up_ones_do_not_fill_the_table_of_all(site: Site) -> None:
    host = site.hosts[0]
    put(site, host, mac="02:00:00:00:00:01")
    before = site.counter("spoofed")
    for number in range(5):
        solicit(host, IPv6Address("fe80::bad:0") + number)
    assert site.counts_to("spoofed", before + 5)
    assert "bad" not in neighbours(site, host)


def test_where_the_mac_address_is_not_known_any_is_let_through(site: Site) -> None:
    host = site.hosts[0]
    put(site, host, mac="")
    solicit(host, IPv6Address("fe80::cafe"))
    assert comes_to_know(site, host, "cafe")


def test_without_an_address_there_is_no_ipv6_at_all(site: Site) -> None:
    host = site.hosts[0]
    site.node.run(f"ip -6 neigh flush dev {host.interface}")
    put(site, host, mac="02:00:00:00:00:01", families=1)
    before = site.counter("spoofed")
    solicit(host, OWN)
    solicit(host, NOBODY)
    assert str(OWN) not in neighbours(site, host)
    assert site.counter("spoofed") == before  # what every kernel says when a link comes up


def test_nobody_is_the_source_only_while_an_address_is_tried_out(site: Site) -> None:
    host = site.hosts[0]
    put(site, host, mac="02:00:00:00:00:01")
    before = site.counter("spoofed")
    solicit(host, NOBODY)
    assert site.counter("spoofed") == before
