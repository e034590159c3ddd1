"""The 802.1Q links that we make.

They bear a group number from the moment they are made, which the kernel takes no alias for, and the
alias `romana vlan`, for people; addresses on such a link are ours too.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from functools import partial
from typing import Final, cast

from pyroute2 import IPRoute

from services.agent.kernel.diff import KindChange
from services.agent.kernel.driver import Problems
from services.agent.kernel.interfaces import Interfaces
from services.agent.kernel.iproute import Routing
from services.agent.kernel.netlink import Problem
from services.agent.kernel.numbers import ALIAS, LINK_GROUP
from services.agent.kernel.rtnetlink import IFA_F_NODAD
from services.agent.kernel.state import Interface, InterfaceAddress, Key, Kind, Value, VlanLink

VLAN_ALIAS: Final = f"{ALIAS} vlan"


def owns(interface: Interface) -> bool:
    """Whether a link was made by us."""
    return interface.is_ours


class VlanLinks:
    """The driver."""

    kind = Kind.LINK

    def __init__(self, interfaces: Interfaces, routing: Routing) -> None:
        self._interfaces = interfaces
        self._routing = routing

    def read(self) -> Mapping[Key, Value]:
        interfaces = self._interfaces.read()
        names = {interface.index: interface.name for interface in interfaces.values()}
        return {
            interface.name: _link(interface, interfaces.get(names.get(interface.parent, "")))
            for interface in interfaces.values()
            if owns(interface)
        }

    def apply(self, step: KindChange) -> Problems:
        """A link of another parent or id is removed first, since it cannot be changed."""
        problems: dict[Key, Problem] = {}
        for name in step.removals:
            problem = self._remove(str(name))
            if problem is not None:
                problems[name] = problem
        for name, value in {**step.additions, **step.replacements}.items():
            problem = self._put(str(name), cast("VlanLink", value))
            if problem is not None:
                problems[name] = problem
        return problems

    def _remove(self, name: str) -> Problem | None:
        there = self._interfaces.read().get(name)
        if there is None or not owns(there):
            return None
        return self._routing.attempt(lambda ip: ip.link("del", index=there.index))

    def _put(self, name: str, wanted: VlanLink) -> Problem | None:
        interfaces = self._interfaces.read()
        parent, there = interfaces.get(wanted.parent), interfaces.get(name)
        if parent is None:
            return Problem(errno.ENODEV, f"interface {wanted.parent} is not there")
        if there is not None and not owns(there):
            return Problem(errno.EEXIST, f"interface {name} is somebody else's")
        if there is not None and (there.parent, there.vlan_id) != (parent.index, wanted.vlan_id):
            self._remove(name)
            there = None
        mtu = wanted.mtu or parent.mtu
        if there is None:
            problem = self._routing.attempt(
                lambda ip: ip.link(
                    "add",
                    ifname=name,
                    kind="vlan",
                    link=parent.index,
                    vlan_id=wanted.vlan_id,
                    mtu=mtu,
                    group=LINK_GROUP,
                )
            )
            if problem is not None:
                return problem
            there = self._interfaces.read().get(name)
            if there is None:
                return Problem(errno.ENODEV, f"interface {name} was removed meanwhile")
        index = there.index
        has = {address for address in there.addresses if not address.ip.is_link_local}
        return self._routing.attempt(
            lambda ip: ip.link("set", index=index, mtu=mtu, ifalias=VLAN_ALIAS, state="up"),
            *(partial(_put_address, index, each) for each in _sorted(wanted.addresses - has)),
            *(partial(_remove_address, index, each) for each in _sorted(has - wanted.addresses)),
        )


def _link(link: Interface, parent: Interface | None) -> VlanLink:
    inherited = parent is not None and link.mtu == parent.mtu
    return VlanLink(
        # One that is down is no link: another value than any that is wanted.
        (parent.name if parent else "") if link.up else "",
        link.vlan_id,
        0 if inherited else link.mtu,
        frozenset(a for a in link.addresses if not a.ip.is_link_local),
    )


def _sorted(
    addresses: frozenset[InterfaceAddress] | set[InterfaceAddress],
) -> list[InterfaceAddress]:
    return sorted(addresses, key=str)


def _put_address(index: int, address: InterfaceAddress, ip: IPRoute) -> None:
    ip.addr(
        "replace",
        index=index,
        address=str(address.ip),
        prefixlen=address.network.prefixlen,
        flags=IFA_F_NODAD,
    )


def _remove_address(index: int, address: InterfaceAddress, ip: IPRoute) -> None:
    ip.addr("delete", index=index, address=str(address.ip), prefixlen=address.network.prefixlen)
