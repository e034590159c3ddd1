"""What a guest of a VM asks the node: it has no address yet, and its rules may say nothing."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address

import pytest

from services.agent.rules.compose import LocalInterface
from tests.kernel.policy.enforcing import AWHILE
from tests.kernel.policy.site import Host, Site
from tests.support.waiting import PATIENCE

NOBODY = IPv4Address("0.0.0.0")
ALL = IPv4Address("255.255.255.255")


@pytest.fixture
def ears(site: Site) -> object:
    """The node's sockets, where its dnsmasq would listen."""

    def listen() -> dict[int, socket.socket]:
        made = {67: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)}
        made[547] = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        made[67].bind(("", 67))
        made[547].bind(("::", 547))
        return made

    made = site.node.call(listen)
    yield made
    for one in made.values():
        one.close()


def ask(host: Host, port: int, source: IPv4Address = NOBODY, target: IPv4Address = ALL) -> None:
    """Sends what a client without an address sends."""
    body = struct.pack("!HHHH", 68, port, 12, 0) + b"who?"
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 0, 0, 64, 17, 0, source.packed, target.packed
    )
    head = head[:10] + struct.pack("!H", _sum(head)) + head[12:]

    def send() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as wire:
            wire.sendto(head + body, ("eth0", 0x0800, 0, 0, b"\xff" * 6))

    host.home.call(send)


def ask_6(host: Host, target: str = "fe80::1") -> None:
    def send() -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as made:
            made.sendto(b"who?", (target, 547, 0, socket.if_nametoindex("eth0")))

    host.home.call(send)


def _sum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def heard(ear: socket.socket, seconds: float = PATIENCE) -> bool:
    ear.settimeout(seconds)
    try:
        return ear.recv(100) == b"who?"
    except TimeoutError:
        return False


def put(site: Site, host: Host, *, dhcp: bool) -> None:
    """It is there and closed: nobody has said its rules."""
    site.reset()
    site.put(removed=[f"endpoint/{host.name}"])
    site.composer.put_local(host.name, LocalInterface(host.interface, host.addresses, dhcp=dhcp))
    site.apply()


def test_a_guest_without_address_and_rules_is_heard(
    site: Site, ears: dict[int, socket.socket]
) -> None:
    host = site.hosts[0]
    put(site, host, dhcp=True)
    before = site.counter("spoofed")
    ask(host, 67)
    assert heard(ears[67])
    ask_6(host)
    assert heard(ears[547])
    assert site.counter("spoofed") == before


def test_who_is_not_to_be_told_is_not_heard(site: Site, ears: dict[int, socket.socket]) -> None:
    host = site.hosts[0]
    put(site, host, dhcp=False)
    before = site.counter("spoofed")
    ask(host, 67)
    assert site.counts_to("spoofed", before + 1)
    assert not heard(ears[67], AWHILE)
    ask_6(host)
    assert not heard(ears[547], AWHILE)


def test_nothing_else_passes_that_has_no_address(
    site: Site, ears: dict[int, socket.socket]
) -> None:
    host = site.hosts[0]
    put(site, host, dhcp=True)
    before = site.counter("spoofed")
    ask(host, 69)
    ask(host, 67, source=IPv4Address("10.1.0.77"))
    ask(host, 67, target=IPv4Address("192.0.2.1"))
    assert site.counts_to("spoofed", before + 3)
    assert not heard(ears[67], AWHILE)
