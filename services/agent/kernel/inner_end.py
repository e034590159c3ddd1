"""The end of a link inside an endpoint's namespace. Called by threads that are in there.

The addresses as /32 and /128, and per family one default route by way of 169.254.1.1 or fe80::1,
on-link, with a permanent neighbour entry for it (the host end's MAC is the same everywhere). So
nothing in there depends on the network's real gateway, no address of the subnet is taken for a
neighbour, and no packet waits for ARP; Calico does the same with 169.254.1.1.

Where another interface has the default route of a family already (a second network of a container),
it keeps it, unless it is to be given up, and the endpoint is *beside* it: what its own addresses
send goes by its own table. So it is, too, where the endpoint is never to have the default route.

A container may do in there what it likes, if it has the right to. So what the kernel took away by
itself when the link went down is put back, and nothing that somebody has put in its place undone.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final

from services.agent.kernel import endpoint_names, host_end, rtnetlink
from services.agent.kernel.codec import Order
from services.agent.kernel.netlink import Netlink
from services.agent.kernel.numbers import FIRST_PRIORITY, FIRST_TABLE, PROTOCOL
from services.agent.kernel.rtnetlink import RT_TABLE_MAIN, Link, Way
from services.agent.kernel.wiring import DefaultRoute, Difference, Wiring, gateway_of
from services.common.errors import AlreadyExists
from services.common.model.network import Address, Prefix

_RULE: Final = (FIRST_PRIORITY, PROTOCOL)
_HARMLESS: Final = frozenset({0, errno.EEXIST})


@dataclass(frozen=True, slots=True)
class _DefaultRoutes:
    """Default routes in there, for one gateway."""

    own: bool
    """By this interface, in the main table."""
    others: bool
    """By another one, in the main table."""
    beside: bool
    """By this interface, in its own table."""


def fill(wiring: Wiring) -> bool | None:
    """Makes it as it shall be; whether it is beside another default route. None: it is not there.

    Raises:
        OSError: The kernel refused.
    """
    if wiring.has_ipv6:
        # before it is up: its link-local address is usable at once
        host_end.write(f"ipv6/conf/{wiring.interface}/disable_ipv6", "0")
        host_end.write(f"ipv6/conf/{wiring.interface}/accept_dad", "0")
    with Netlink() as inner:
        link = rtnetlink.link(inner, wiring.interface)
        if link is None:
            return None
        inner.do([rtnetlink.set_up(link.index), *_addresses(link, wiring.addresses)])
        _reach(inner, link, wiring, harmless=frozenset({0}))
        return _route(inner, link, wiring, replace=wiring.default_route is DefaultRoute.ALWAYS)


def mend(wiring: Wiring) -> None:
    """Puts back what the kernel took away when the link went down, if it is up again."""
    with Netlink() as inner:
        link = rtnetlink.link(inner, wiring.interface)
        if link is not None and link.up:
            six = [address for address in wiring.addresses if isinstance(address, IPv6Address)]
            inner.do(_addresses(link, six))
            _reach(inner, link, wiring, harmless=_HARMLESS)
            _route(inner, link, wiring, replace=False)


def is_there(wiring: Wiring) -> bool:
    """Whether the end is in this namespace."""
    with Netlink() as inner:
        link = rtnetlink.link(inner, wiring.interface)
        return link is not None and link.mac == wiring.mac


def unroute(addresses: Sequence[Address]) -> None:
    """Removes the rules of addresses that were beside another default route."""
    with Netlink() as inner:
        inner.attempt([rtnetlink.delete_rule(address, 0, *_RULE) for address in addresses])


def routed() -> frozenset[int]:
    """The families that have a default route in the main table."""
    with Netlink() as inner:
        return frozenset(
            way.version for way in rtnetlink.default_routes(inner) if way.table == RT_TABLE_MAIN
        )


def differences(wiring: Wiring) -> Iterator[Difference]:
    """What is not as it shall be."""
    where = f"{wiring.interface} in {wiring.namespace}"
    with Netlink() as inner:
        link = rtnetlink.link(inner, wiring.interface)
        if link is None:
            text = f"{wiring.namespace} has no interface {wiring.interface}"
            yield Difference(text, gone=True)
            return
        has = {own.ip for _, own in rtnetlink.addresses(inner, link.index)}
        routes = rtnetlink.default_routes(inner)
        reached = rtnetlink.reached(inner, link.index) if wiring.routes else set()
    if not link.up:
        yield Difference(f"{where} is down")
    if link.mac != wiring.mac:
        yield Difference(f"{where} has the MAC address {link.mac}, not {wiring.mac}")
    if link.mtu != wiring.mtu:
        yield Difference(f"{where} has an MTU of {link.mtu}, not {wiring.mtu}")
    for address in wiring.addresses:
        if address not in has:
            yield Difference(f"{where} lacks {address}")
    for lacking in _lacking(wiring, link, routes, reached):
        yield Difference(f"{where} lacks {lacking}")


def _lacking(
    wiring: Wiring, link: Link, routes: Sequence[Way], reached: Container[Prefix]
) -> Iterator[str]:
    for gateway in wiring.gateways:
        ways = _ways(routes, link, gateway)
        aside = ways.others or wiring.default_route is DefaultRoute.NEVER
        if not (ways.own or (aside and ways.beside)):
            yield f"the default route by way of {gateway}"
    for prefix in wiring.routes:
        if prefix not in reached:
            yield f"the route to {prefix}"


def _addresses(link: Link, addresses: Sequence[Address]) -> list[Order]:
    return [
        rtnetlink.add_address(link.index, address, address.max_prefixlen) for address in addresses
    ]


def _reach(inner: Netlink, link: Link, wiring: Wiring, *, harmless: frozenset[int]) -> None:
    """Puts the routes to prefixes, which nobody else may have."""
    puts = [rtnetlink.add_route(link.index, to, gateway_of(to)) for to in wiring.routes]
    for prefix, code in zip(wiring.routes, inner.attempt(puts), strict=True):
        if code == errno.EEXIST and code not in harmless:
            raise AlreadyExists(
                f"{wiring.namespace} has a route to {prefix} already",
                "ROUTE_TAKEN",
                {"prefix": str(prefix), "namespace": wiring.namespace[:200]},
            )
        if code not in harmless:
            raise OSError(code, os.strerror(code))


def _route(inner: Netlink, link: Link, wiring: Wiring, *, replace: bool) -> bool:
    """Puts the default routes that are missing; whether one is not in the main table.

    `replace`: those of others give way.
    """
    routes = rtnetlink.default_routes(inner)
    table = FIRST_TABLE + link.index
    puts: list[Order] = []
    rules: list[Order] = []
    for gateway in wiring.gateways:
        ways = _ways(routes, link, gateway)
        puts.append(rtnetlink.add_neighbour(link.index, gateway, endpoint_names.HOST_MAC))
        if ways.own:
            continue
        if (ways.others and not replace) or wiring.default_route is DefaultRoute.NEVER:
            puts.append(rtnetlink.add_default(link.index, gateway, table))
            rules += [
                rtnetlink.add_rule(address, table, *_RULE)
                for address in wiring.addresses
                if gateway_of(address) == gateway
            ]
        else:
            puts.append(rtnetlink.add_default(link.index, gateway))
    inner.do(puts)
    for code in inner.attempt(rules):
        if code not in _HARMLESS:
            raise OSError(code, os.strerror(code))
    return bool(rules)


def _ways(routes: Sequence[Way], link: Link, gateway: Address) -> _DefaultRoutes:
    family = [route for route in routes if route.version == gateway.version]
    main = [route for route in family if route.table == RT_TABLE_MAIN]
    own = [route for route in family if (route.interface, route.gateway) == (link.index, gateway)]
    return _DefaultRoutes(
        own=any(route.table == RT_TABLE_MAIN for route in own),
        others=any(route.interface != link.index for route in main),
        beside=any(route.table == FIRST_TABLE + link.index for route in own),
    )
