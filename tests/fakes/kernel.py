"""A kernel in memory, as strict as the real one about what depends on what.

It passes `tests/contract/agent/test_kernel.py` beside the real one.
"""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Collection, Mapping
from typing import cast

from services.agent.kernel import route_bytes
from services.agent.kernel.diff import KindChange
from services.agent.kernel.netlink import Problem
from services.agent.kernel.numbers import ALIAS
from services.agent.kernel.state import (
    Interface,
    KernelState,
    Key,
    Kind,
    Look,
    Nexthop,
    Proxy,
    Value,
    VlanLink,
)


class FakeKernel:
    """Interfaces, what is ours, and routes of others."""

    def __init__(self, interfaces: Collection[Interface] = ()) -> None:
        self._interfaces = {interface.name: interface for interface in interfaces}
        self._objects: dict[Kind, dict[Key, Value]] = {kind: {} for kind in Kind}
        self.foreign_routes: dict[bytes, bytes] = {}
        self.steps: list[tuple[KindChange, KernelState]] = []
        """What was applied, with what was ours after it."""

    @property
    def ours(self) -> KernelState:
        """All that is ours."""
        return self.read(KernelState(), tuple(Kind))

    def interfaces(self, _look: Look | None = None, /) -> Mapping[str, Interface]:
        return dict(self._interfaces)

    def read(self, state: KernelState, kinds: Collection[Kind]) -> KernelState:
        for kind in kinds:
            state = state.having(kind, dict(self._objects[kind]))
        return state

    def apply(self, step: KindChange) -> Mapping[Key, Problem]:
        problems: dict[Key, Problem] = {}
        objects = self._objects[step.kind]
        for key in step.removals:
            self._remove(step.kind, key)
        for key, value in step.additions.items():
            number = self._refuses(step.kind, key, value)
            if not number and step.kind in {Kind.ROUTE, Kind.NEXTHOP} and key in objects:
                number = errno.EEXIST
            if number:
                problems[key] = Problem(number)
            else:
                self._put(step.kind, key, value)
        for key, value in step.replacements.items():
            number = self._refuses(step.kind, key, value)
            if number:
                problems[key] = Problem(number)
            else:
                self._put(step.kind, key, value)
        self.steps.append((step, self.ours))
        return problems

    def _put(self, kind: Kind, key: Key, value: Value) -> None:
        self._objects[kind][key] = value
        if kind is Kind.LINK:
            link = cast("VlanLink", value)
            parent = self._interfaces[link.parent]
            name = str(key)
            taken = [interface.index for interface in self._interfaces.values()]
            index = self._interfaces[name].index if name in self._interfaces else max(taken) + 1
            self._interfaces[name] = Interface(
                name,
                index,
                mtu=link.mtu or parent.mtu,
                alias=f"{ALIAS} vlan",
                kind="vlan",
                parent=parent.index,
                vlan_id=link.vlan_id,
                addresses=tuple(link.addresses),
            )

    def _refuses(self, kind: Kind, key: Key, value: Value) -> int:
        up = {item.index for item in self._interfaces.values() if item.up}
        if kind is Kind.LINK:
            return 0 if cast("VlanLink", value).parent in self._interfaces else errno.ENODEV
        if kind is Kind.NEXTHOP:
            return 0 if cast("Nexthop", value).interface in up else errno.ENODEV
        if kind is Kind.PROXY:
            return 0 if cast("Proxy", key).interface in up else errno.ENODEV
        if kind is not Kind.ROUTE:
            return 0
        way = route_bytes.unpack_value(cast("bytes", value))
        if way.nexthop and way.nexthop not in self._objects[Kind.NEXTHOP]:
            return errno.EINVAL
        if way.interface and way.interface not in up:
            return errno.ENODEV
        return errno.EEXIST if key in self.foreign_routes else 0

    def _remove(self, kind: Kind, key: Key) -> None:
        self._objects[kind].pop(key, None)
        if kind is Kind.NEXTHOP:
            value = route_bytes.by_nexthop(cast("int", key))
            routes = self._objects[Kind.ROUTE]
            self._objects[Kind.ROUTE] = {k: v for k, v in routes.items() if v != value}
        elif kind is Kind.LINK:
            self.remove_interface(str(key))

    def add_interface(self, interface: Interface) -> None:
        """Adds an interface."""
        self._interfaces[interface.name] = interface

    def remove_interface(self, name: str) -> None:
        """Takes an interface away, with all that goes with it."""
        gone = self._interfaces.pop(name, None)
        if gone is None:
            return
        self._objects[Kind.LINK].pop(name, None)
        nexthops = cast("dict[int, Nexthop]", self._objects[Kind.NEXTHOP])
        for number in [n for n, nexthop in nexthops.items() if nexthop.interface == gone.index]:
            self._remove(Kind.NEXTHOP, number)
        for kind in (Kind.ROUTE, Kind.PROXY):
            self._objects[kind] = {
                key: value
                for key, value in self._objects[kind].items()
                if _interface(kind, key, value) != gone.index
            }

    def renumber(self, name: str) -> None:
        """Makes an interface anew, as when its driver is loaded again."""
        before = self._interfaces[name]
        self.remove_interface(name)
        self._interfaces[name] = dataclasses.replace(before, index=before.index + 1000)


def _interface(kind: Kind, key: Key, value: Value) -> int:
    if kind is Kind.PROXY:
        return cast("Proxy", key).interface
    return route_bytes.unpack_value(cast("bytes", value)).interface
