"""Bridges, cables, VLAN links, addresses and ways of a lab, as values; pyroute2 makes them.

What is made is made in one namespace after the other, by a thread that is in there: pyroute2 would
fork the process to get into one itself.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path
from typing import TypeAlias

from pyroute2 import IPRoute, NetlinkError

from lab.namespaces import call
from lab.routing import Route
from lab.spec import Address, Prefix
from services.common.errors import WrongState

_NO_DAD = 2
"""IFA_F_NODAD: the address can be used at once."""
_STATIC = 4
"""RTPROT_STATIC"""
_PVID, _UNTAGGED = 2, 4
"""BRIDGE_VLAN_INFO_*"""


@dataclass(frozen=True, slots=True)
class Bridge:
    """A switch that forwards from the beginning."""

    name: str
    vlan_aware: bool = False


@dataclass(frozen=True, slots=True)
class Cable:
    """A veth pair, one end here, the other in another namespace."""

    here: str
    namespace: Path
    there: str


@dataclass(frozen=True, slots=True)
class VlanLink:
    """An 802.1Q link on another one."""

    name: str
    parent: str
    vlan_id: int


@dataclass(frozen=True, slots=True)
class Up:
    """An interface is up, perhaps as a port of a bridge."""

    interface: str
    bridge: str = ""


@dataclass(frozen=True, slots=True)
class PortVlan:
    """A port of a VLAN-aware bridge is on a VLAN."""

    port: str
    vlan_id: int
    tagged: bool


@dataclass(frozen=True, slots=True)
class Own:
    """An interface has an address."""

    address: str
    """With the length of its prefix."""
    interface: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A route is in the table."""

    route: Route


@dataclass(frozen=True, slots=True)
class OnLink:
    """In a table of its own a prefix is on an interface's link."""

    prefix: Prefix
    interface: str
    table: int


@dataclass(frozen=True, slots=True)
class Rule:
    """What comes in by an interface, or has a source, is looked up in a table before others."""

    table: int
    """Also its priority."""
    version: int
    """Of IP."""
    comes_in: str = ""
    source: Address | None = None


Thing: TypeAlias = Bridge | Cable | VlanLink | Up | PortVlan | Own | Entry | OnLink | Rule


def make(namespace: Path, things: Iterable[Thing]) -> None:
    """Makes things in this order, all or up to the first that fails.

    Raises:
        WrongState: With that one.
    """

    def work() -> None:
        with IPRoute(groups=0) as ip:
            for thing in things:
                try:
                    _make(thing, ip)
                except NetlinkError as error:
                    raise WrongState(
                        f"{thing} in {namespace.name}: {os.strerror(error.code)}",
                        "LAB_COMMAND_FAILED",
                    ) from error

    call(namespace, work)


def _make(thing: Thing, ip: IPRoute) -> None:
    match thing:
        case Bridge():
            _make_bridge(thing, ip)
        case Cable():
            _make_cable(thing, ip)
        case VlanLink():
            _make_vlan_link(thing, ip)
        case Up():
            _make_up(thing, ip)
        case PortVlan():
            _make_port_vlan(thing, ip)
        case Own():
            _make_own(thing, ip)
        case Entry():
            _make_entry(thing, ip)
        case OnLink():
            link = _index(ip, thing.interface)
            ip.route("add", dst=str(thing.prefix), oif=link, table=thing.table, proto=_STATIC)
        case Rule():
            _make_rule(thing, ip)


def _make_bridge(bridge: Bridge, ip: IPRoute) -> None:
    options = {"br_forward_delay": 0, "br_stp_state": 0, "br_mcast_snooping": 0}
    if bridge.vlan_aware:
        options |= {"br_vlan_filtering": 1, "br_vlan_default_pvid": 0}
    ip.link("add", ifname=bridge.name, kind="bridge", **options)
    ip.link("set", ifname=bridge.name, state="up")


def _make_cable(cable: Cable, ip: IPRoute) -> None:
    descriptor = os.open(cable.namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        peer = {"ifname": cable.there, "net_ns_fd": descriptor}
        ip.link("add", ifname=cable.here, kind="veth", peer=peer)
    finally:
        os.close(descriptor)


def _make_vlan_link(link: VlanLink, ip: IPRoute) -> None:
    parent = _index(ip, link.parent)
    ip.link("add", ifname=link.name, kind="vlan", link=parent, vlan_id=link.vlan_id)


def _make_up(up: Up, ip: IPRoute) -> None:
    master = {"master": _index(ip, up.bridge)} if up.bridge else {}
    ip.link("set", ifname=up.interface, state="up", **master)


def _make_port_vlan(port: PortVlan, ip: IPRoute) -> None:
    flags = 0 if port.tagged else _PVID | _UNTAGGED
    info = {"vid": port.vlan_id, "flags": flags}
    ip.vlan_filter("add", index=_index(ip, port.port), vlan_info=info)


def _make_own(own: Own, ip: IPRoute) -> None:
    address = ip_interface(own.address)
    ip.addr(
        "add",
        index=_index(ip, own.interface),
        address=str(address.ip),
        prefixlen=address.network.prefixlen,
        **({"flags": _NO_DAD} if address.version == 6 else {}),
    )


def _make_entry(entry: Entry, ip: IPRoute) -> None:
    route = entry.route
    if route.via is None:
        ip.route("add", dst=str(route.prefix), type="unreachable", proto=_STATIC)
        return
    way: dict[str, object] = {"gateway": str(route.via)}
    if route.interface:
        way["oif"] = _index(ip, route.interface)
    ip.route("add", dst=str(route.prefix), proto=_STATIC, **way)


def _make_rule(rule: Rule, ip: IPRoute) -> None:
    what: dict[str, object] = {"iifname": rule.comes_in} if rule.comes_in else {}
    if rule.source is not None:
        what |= {"src": str(rule.source), "src_len": rule.source.max_prefixlen}
    family = socket.AF_INET6 if rule.version == 6 else socket.AF_INET
    ip.rule("add", family=family, table=rule.table, priority=rule.table, **what)


def _index(ip: IPRoute, interface: str) -> int:
    found = ip.link_lookup(ifname=interface)
    if not found:
        raise NetlinkError(19, f"no interface {interface}")  # ENODEV
    return found[0]
