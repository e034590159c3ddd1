"""The node's end of an endpoint's link: its settings and addresses, and what of them is not so.

It answers ARP for everything it has a route to (`proxy_arp`, without the delay that the kernel has
for it), which is what a VM needs, whose guest configures itself. The gateway's address is its own
only for IPv6, where that is link-local: 169.254.1.1 is not given to it, since the kernel would take
it for the source of what the node itself sends to the endpoint. But where a VM's guest is told by
DHCP who it is, whoever answers needs an address of each family there: one that is no source. Router
advertisements have to come from the gateway's address, so it is the only link-local one then.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from services.agent.kernel import endpoint_names, rtnetlink
from services.agent.kernel.codec import Order
from services.agent.kernel.netlink import Netlink
from services.agent.kernel.rtnetlink import Link
from services.agent.kernel.wiring import (
    ADVERTISED_LENGTH,
    ADVERTISER_6,
    GATEWAY_4,
    GATEWAY_6,
    Difference,
    Wiring,
)
from services.common.model.network import Address

_NET: Final = "/proc/sys/net/"
_MADE_UP: Final = "ipv6/conf/*/addr_gen_mode"
"""Of the link-local address: 0 makes one of the MAC address, 1 none."""
TAP: Final = "tun"
"""What the kernel calls the kind."""
_LISTENING: Final = ((GATEWAY_4, 32), (ADVERTISER_6, ADVERTISED_LENGTH))


def settings(*, on: bool) -> Mapping[str, str]:
    """The end's settings below /proc/sys/net, with `*` for the interface.

    `rp_filter` is strict, unless the node has 2 for `all`, of which the kernel takes the larger: a
    packet with a source that is not the endpoint's own has no way back through this interface, and
    goes no further.
    """
    return {
        "ipv4/conf/*/rp_filter": "1" if on else "0",
        "ipv4/conf/*/proxy_arp": "1" if on else "0",
        "ipv4/neigh/*/proxy_delay": "0" if on else "80",
        "ipv4/conf/*/forwarding": "1",
        "ipv6/conf/*/accept_dad": "0" if on else "1",
        "ipv6/conf/*/accept_ra": "0",
        "ipv6/conf/*/forwarding": "1",
        "ipv6/conf/*/proxy_ndp": "1" if on else "0",
        "ipv6/neigh/*/proxy_delay": "0" if on else "80",
    }


def _of(wiring: Wiring) -> Mapping[str, str]:
    """What one end shall have."""
    own = {_MADE_UP: "1"} if wiring.dhcp and wiring.has_ipv6 else {}
    return {**settings(on=True), **own}


def configure(wiring: Wiring) -> None:
    """Gives it its settings."""
    _configure(wiring.host_interface, _of(wiring))


def _configure(interface: str, wanted: Mapping[str, str]) -> None:
    for path, value in wanted.items():
        write(path.replace("*", interface), value)


def addresses(index: int, wiring: Wiring) -> list[Order]:
    """Gives it those that it needs."""
    gateway = [rtnetlink.add_address(index, GATEWAY_6, 64)] if wiring.has_ipv6 else []
    return gateway + [
        rtnetlink.add_listening(index, address, length)
        for address, length in _LISTENING
        if address in _listening(wiring)
    ]


def _listening(wiring: Wiring) -> list[Address]:
    """Those that a guest's questions are answered at."""
    if not wiring.dhcp:
        return []
    return [
        *([GATEWAY_4] if wiring.has_ipv4 else []),
        *([ADVERTISER_6] if wiring.has_ipv6 else []),
    ]


def mend(wiring: Wiring) -> None:
    """Makes it as it shall be, if it is there."""
    with Netlink() as host:
        link = rtnetlink.link(host, wiring.host_interface)
        if link is not None:
            configure(wiring)
            host.do([_set_up(link, wiring), *addresses(link.index, wiring)])
            _drop_made_up(host, link.index, wiring)


def adopt(host: Netlink, link: Link, wiring: Wiring) -> None:
    """Makes of an interface that is there what an endpoint's end shall be."""
    configure(wiring)
    host.do([_set_up(link, wiring), *addresses(link.index, wiring)])
    _drop_made_up(host, link.index, wiring)


def _set_up(link: Link, wiring: Wiring) -> Order:
    return rtnetlink.set_up(link.index, endpoint_names.HOST_MAC if _is_alike(link, wiring) else "")


def _is_alike(link: Link, wiring: Wiring) -> bool:
    """Whether its MAC address is that of all such ends.

    A guest that moves to another node goes on sending to the MAC addresses that it knows, so taps
    are alike, too. Other interfaces that somebody else made keep theirs.
    """
    return bool(wiring.namespace) or link.kind == TAP


def disown(interface: str) -> None:
    """Undoes `adopt`; does nothing if the interface is gone."""
    _configure(interface, settings(on=False))
    with Netlink() as host:
        link = rtnetlink.link(host, interface)
        if link is None:
            return
        has = {own.ip for _, own in rtnetlink.addresses(host, link.index)}
        undone = [
            rtnetlink.delete_address(link.index, address, length)
            for address, length in ((GATEWAY_6, 64), *_LISTENING)
            if address in has
        ]
        if link.mac == endpoint_names.HOST_MAC:
            undone.append(rtnetlink.set_mac(link.index, endpoint_names.drawn_mac()))
        host.attempt(undone)
    if ADVERTISER_6 in has:
        _configure(interface, {_MADE_UP: "0"})


def _drop_made_up(host: Netlink, index: int, wiring: Wiring) -> None:
    """Takes off link-local addresses by which a guest might know its gateway instead."""
    if wiring.dhcp and wiring.has_ipv6:
        host.attempt(
            [
                rtnetlink.delete_address(index, own.ip, own.network.prefixlen)
                for _, own in rtnetlink.addresses(host, index)
                if own.ip.version == 6 and own.ip.is_link_local and own.ip != GATEWAY_6
            ]
        )


def differences(wiring: Wiring) -> Iterator[Difference]:
    """What is not as it shall be."""
    name = wiring.host_interface
    with Netlink() as host:
        link = rtnetlink.link(host, name)
        if link is None:
            yield Difference(f"the node has no interface {name}", gone=True)
            return
        has = {own.ip for _, own in rtnetlink.addresses(host, link.index)}
    yield from _of_link(link, wiring)
    needs = [*([GATEWAY_6] if wiring.has_ipv6 else []), *_listening(wiring)]
    for address in needs:
        if address not in has:
            yield Difference(f"{name} lacks {address}")
    for path, value in _of(wiring).items():
        found = _read(path.replace("*", name))
        if found not in {None, value}:
            yield Difference(f"{path.replace('*', name)} is {found}, not {value}")


def _of_link(link: Link, wiring: Wiring) -> Iterator[Difference]:
    if not link.up:
        yield Difference(f"{link.name} is down")
    if not link.resolves:
        yield Difference(f"{link.name} does not resolve neighbours (NOARP)")
    if _is_alike(link, wiring) and link.mac != endpoint_names.HOST_MAC:
        yield Difference(
            f"{link.name} has the MAC address {link.mac}, not {endpoint_names.HOST_MAC}"
        )


def _read(path: str) -> str | None:
    """None: there is no such setting, as IPv6's are not on a kernel without it."""
    try:
        return Path(_NET + path).read_text().strip()
    except OSError:
        return None


def write(path: str, value: str) -> None:
    """Writes a setting below /proc/sys/net, by system calls: there are nine for every endpoint.

    A setting of IPv6 that is not there, on a kernel without it, is not missed.
    """
    try:
        descriptor = os.open(_NET + path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)
