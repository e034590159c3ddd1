"""Interfaces: all of them to look at, and the 802.1Q links that we make.

Ours bear the alias `romana vlan`; addresses on such a link are ours too. Formats: linux/if_link.h,
linux/if_addr.h.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, cast

from services.agent.kernel import netlink, sysctls
from services.agent.kernel.diff import Step
from services.agent.kernel.driver import Problems
from services.agent.kernel.netlink import Netlink, Problem
from services.agent.kernel.numbers import ALIAS
from services.agent.kernel.state import (
    Interface,
    InterfaceAddress,
    Key,
    Kind,
    Look,
    Value,
    VlanLink,
)
from services.common.model.network import Address

NEW_LINK: Final = 16
DELETE_LINK: Final = 17
GET_LINK: Final = 18
NEW_ADDRESS: Final = 20
DELETE_ADDRESS: Final = 21
GET_ADDRESS: Final = 22

IFNAME: Final = 3
_MTU, _LINK, _LINKINFO, _ALIAS, _EXT_MASK = 4, 5, 18, 20, 29
_INFO_KIND, _INFO_DATA, _VLAN_ID = 1, 2, 1
_ADDRESS, _LOCAL, _FLAGS = 1, 2, 8
_UP: Final = 1
_SKIP_STATISTICS: Final = 1 << 3
"""RTEXT_FILTER_SKIP_STATS."""
_LINK_MESSAGE = struct.Struct("=BxHiII")
"""ifinfomsg: family, type, index, flags, change."""
MESSAGE_SIZE: Final = _LINK_MESSAGE.size
_ADDRESS_MESSAGE = struct.Struct("=BBBBI")
"""ifaddrmsg: family, prefix length, flags, scope, index."""
_NODAD: Final = 2
VLAN_ALIAS: Final = f"{ALIAS} vlan"


def owns(interface: Interface) -> bool:
    """Whether a link was made by us."""
    return interface.is_ours


def own_addresses(socket_: Netlink) -> frozenset[Address]:
    """All addresses of this namespace; raises KernelUnavailable."""
    return frozenset(
        address.ip
        for data in socket_.dump(GET_ADDRESS, _ADDRESS_MESSAGE.pack(0, 0, 0, 0, 0))
        for _, address in _parse_addresses(data)
    )


class Links:
    """The driver."""

    kind = Kind.LINK

    def __init__(
        self, socket_: Netlink, before: Callable[[str], str | None] = lambda _: None
    ) -> None:
        """`before`: what a sysctl was before it was ours; None: it is not."""
        self._netlink = socket_
        self._before = before
        self._known: dict[str, Interface] | None = None

    def interfaces(self, look: Look | None = None) -> Mapping[str, Interface]:
        """All interfaces of this namespace, by name.

        `look`: only these are looked at; the others are as they were when all were.
        """
        if look is None or self._known is None:
            self._known = self._all()
            return self._known
        found = {name: item for name, item in self._known.items() if name not in look.gone}
        for name in look.at:
            interface = self._one(name)
            if interface is not None:
                found[name] = interface
            else:
                found.pop(name, None)
        self._known = found
        return found

    def _all(self) -> dict[str, Interface]:
        addresses: dict[int, list[InterfaceAddress]] = {}
        for data in self._netlink.dump(GET_ADDRESS, _ADDRESS_MESSAGE.pack(0, 0, 0, 0, 0)):
            for index, address in _parse_addresses(data):
                addresses.setdefault(index, []).append(address)
        found: dict[str, Interface] = {}
        body = _LINK_MESSAGE.pack(0, 0, 0, 0, 0) + netlink.number(_EXT_MASK, _SKIP_STATISTICS)
        for data in self._netlink.dump(GET_LINK, body):
            for interface in _parse_links(data):
                own = tuple(addresses.get(interface.index, ()))
                found[interface.name] = replace(
                    interface, addresses=own, accept_ra=self._accept_ra(interface.name, own)
                )
        return found

    def _accept_ra(self, name: str, addresses: Iterable[InterfaceAddress]) -> int:
        """As it would be without us; not looked up for endpoints' links, which are many and have
        link-local addresses only."""
        if all(address.ip.is_link_local for address in addresses):
            return 0
        own = f"net/ipv6/conf/{name}"
        value = self._before(f"{own}/accept_ra") or _sysctl(f"{own}/accept_ra")
        if value == "1":
            forwards = self._before("net/ipv6/conf/all/forwarding") or _sysctl(f"{own}/forwarding")
            return int(forwards == "0")
        return 2 if value == "2" else 0

    def _one(self, name: str) -> Interface | None:
        """An endpoint's, which has no addresses that matter."""
        body = _LINK_MESSAGE.pack(0, 0, 0, 0, 0) + netlink.number(_EXT_MASK, _SKIP_STATISTICS)
        data = self._netlink.find(GET_LINK, body + netlink.text(IFNAME, name), errno.ENODEV)
        return None if data is None else next(_parse_links(data), None)

    def read(self) -> Mapping[Key, Value]:
        """The links that are ours."""
        interfaces = self.interfaces()
        names = {interface.index: interface.name for interface in interfaces.values()}
        return {
            interface.name: self._link(interface, names, interfaces)
            for interface in interfaces.values()
            if owns(interface)
        }

    def _link(
        self, link: Interface, names: Mapping[int, str], interfaces: Mapping[str, Interface]
    ) -> VlanLink:
        parent = interfaces.get(names.get(link.parent, ""))
        inherited = parent is not None and link.mtu == parent.mtu
        return VlanLink(
            # One that is down is no link: another value than any that is wanted.
            (parent.name if parent else "") if link.up else "",
            link.vlan_id,
            0 if inherited else link.mtu,
            frozenset(a for a in link.addresses if not a.ip.is_link_local),
        )

    def apply(self, step: Step) -> Problems:
        """A link of another parent or id is removed first, since it cannot be changed."""
        problems: dict[Key, Problem] = {}
        for name in step.removals:
            problems.update(self._remove(str(name)))
        for name, value in {**step.additions, **step.replacements}.items():
            problem = self._put(str(name), cast("VlanLink", value))
            if problem is not None:
                problems[name] = problem
        return problems

    def _remove(self, name: str) -> dict[Key, Problem]:
        there = self.interfaces().get(name)
        if there is None or not owns(there):
            return {}
        body = _LINK_MESSAGE.pack(0, 0, there.index, 0, 0)
        refused = self._netlink.execute([netlink.message(DELETE_LINK, 0, 0, body)])
        return dict.fromkeys((name,), refused[0]) if refused else {}

    def _put(self, name: str, wanted: VlanLink) -> Problem | None:
        interfaces = self.interfaces()
        parent, there = interfaces.get(wanted.parent), interfaces.get(name)
        if parent is None:
            return Problem(errno.ENODEV, f"interface {wanted.parent} is not there")
        if there is not None and not owns(there):
            return Problem(errno.EEXIST, f"interface {name} is somebody else's")
        if there is not None and (there.parent, there.vlan_id) != (parent.index, wanted.vlan_id):
            self._remove(name)
            there = None
        if there is None:
            problem = self._first(
                _new_link(name, parent.index, wanted.vlan_id, wanted.mtu or parent.mtu)
            )
            if problem is not None:
                return problem
            there = self.interfaces().get(name)
            if there is None:
                return Problem(errno.ENODEV, f"interface {name} was removed meanwhile")
        has = {address for address in there.addresses if not address.ip.is_link_local}
        messages = [_change_link(there.index, wanted.mtu or parent.mtu)]
        messages += _addresses(NEW_ADDRESS, there.index, wanted.addresses - has, 1)
        messages += _addresses(DELETE_ADDRESS, there.index, has - wanted.addresses, len(messages))
        return self._first(messages)

    def _first(self, messages: list[bytes]) -> Problem | None:
        problems = self._netlink.execute(messages)
        return problems[min(problems)] if problems else None


def _sysctl(path: str) -> str:
    """Its value; empty: it is not there."""
    try:
        return (sysctls.ROOT / path).read_text().strip()
    except OSError:
        return ""


def _new_link(name: str, parent: int, vlan_id: int, mtu: int) -> list[bytes]:
    """The kernel ignores an alias here; in the same datagram, it cannot be missed by a crash."""
    data = netlink.attribute(_VLAN_ID, struct.pack("=H", vlan_id))
    info = netlink.text(_INFO_KIND, "vlan") + netlink.attribute(_INFO_DATA, data)
    named = _LINK_MESSAGE.pack(0, 0, 0, 0, 0) + netlink.text(IFNAME, name)
    body = (
        named
        + netlink.number(_LINK, parent)
        + netlink.number(_MTU, mtu)
        + netlink.attribute(_LINKINFO, info)
    )
    return [
        netlink.message(NEW_LINK, netlink.CREATE | netlink.EXCLUSIVE, 0, body),
        netlink.message(NEW_LINK, 0, 1, named + netlink.attribute(_ALIAS, VLAN_ALIAS.encode())),
    ]


def _change_link(index: int, mtu: int) -> bytes:
    return netlink.message(
        NEW_LINK,
        0,
        0,
        _LINK_MESSAGE.pack(0, 0, index, _UP, _UP) + netlink.number(_MTU, mtu),
    )


def _addresses(
    kind: int, index: int, addresses: Iterable[InterfaceAddress], sequence: int
) -> list[bytes]:
    flags = netlink.CREATE | netlink.REPLACE if kind == NEW_ADDRESS else 0
    return [
        netlink.message(kind, flags, number, _address(index, address))
        for number, address in enumerate(sorted(addresses, key=str), sequence)
    ]


def _address(index: int, address: InterfaceAddress) -> bytes:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return (
        _ADDRESS_MESSAGE.pack(family, address.network.prefixlen, 0, 0, index)
        + netlink.attribute(_LOCAL, address.ip.packed)
        + netlink.attribute(_ADDRESS, address.ip.packed)
        + netlink.number(_FLAGS, _NODAD)
    )


@dataclass(frozen=True, slots=True)
class _Info:
    kind: str = ""
    vlan_id: int = 0


def _parse_links(data: bytes) -> Iterator[Interface]:
    for kind, _, start, end in netlink.messages(data):
        if kind != NEW_LINK:
            continue
        _, _, index, flags, _ = _LINK_MESSAGE.unpack_from(data, start)
        found = netlink.attributes(data, start + _LINK_MESSAGE.size, end)
        info = _parse_info(found.get(_LINKINFO, b""))
        yield Interface(
            name=_text(found.get(IFNAME, b"")),
            index=index,
            up=bool(flags & _UP),
            mtu=int.from_bytes(found.get(_MTU, b""), "little"),
            alias=_text(found.get(_ALIAS, b"")),
            kind=info.kind,
            parent=int.from_bytes(found.get(_LINK, b""), "little"),
            vlan_id=info.vlan_id,
        )


def _parse_info(data: bytes) -> _Info:
    found = netlink.attributes(data, 0, len(data))
    kind = _text(found.get(_INFO_KIND, b""))
    if kind != "vlan":
        return _Info(kind)
    details = found.get(_INFO_DATA, b"")
    vlan_id = netlink.attributes(details, 0, len(details)).get(_VLAN_ID, b"")
    return _Info(kind, int.from_bytes(vlan_id, "little"))


def _parse_addresses(data: bytes) -> Iterator[tuple[int, InterfaceAddress]]:
    for kind, _, start, end in netlink.messages(data):
        if kind != NEW_ADDRESS:
            continue
        _, length, _, _, index = _ADDRESS_MESSAGE.unpack_from(data, start)
        found = netlink.attributes(data, start + _ADDRESS_MESSAGE.size, end)
        address = found.get(_LOCAL) or found.get(_ADDRESS)
        if address is not None:
            yield index, ipaddress.ip_interface((address, length))


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="replace")
