"""What endpoints have in the sets and maps of the table. Pure.

An address that two endpoints have, as while one is replaced by another, is the newer one's; and the
other one's again if that goes first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from ipaddress import IPv6Address
from typing import Final, TypeAlias

from services.agent.kernel.nftables import table_names
from services.agent.kernel.nftables.table import Changes, Elements, Shape, interface_key
from services.agent.kernel.nftables.table_diff import compare
from services.common.model.names import EndpointName
from services.common.model.rules import Direction, Profile

_NAMES: Final = {4: table_names.SOURCES_4, 6: table_names.SOURCES_6}
_GUARDED: Final = {Direction.INGRESS: table_names.ANSWERING, Direction.EGRESS: table_names.ASKING}
_LENGTH_6: Final = 16
_Key: TypeAlias = tuple[str, bytes]
"""A set and an element of it."""
_LINK_LOCAL: Final = IPv6Address("fe80::").packed[:8]


class EndpointSets:
    """What all endpoints of the node have."""

    def __init__(self) -> None:
        self._elements: dict[str, Elements] = {}
        self._had: dict[EndpointName, Mapping[str, Elements]] = {}
        self._holders: dict[_Key, list[EndpointName]] = {}
        """Who has an element, nearly always one: the last is the newest, whose it is."""

    def elements(self) -> Iterator[tuple[str, Elements]]:
        """Of all sets that have any, as of the last refresh."""
        return iter(self._elements.items())

    def refresh(
        self,
        now: Mapping[EndpointName, Mapping[str, Elements]],
        shapes: Mapping[str, Shape],
        changes: Changes,
    ) -> None:
        """Brings up to date what some endpoints have; what others have stays.

        Args:
            now: By set; nothing for an endpoint that is not here any more.
            shapes: Of all sets.
            changes: To which is added what is different.
        """
        concerned: dict[_Key, None] = {}
        for name, has in now.items():
            concerned.update(dict.fromkeys(self._replace(name, has)))
        before: dict[str, Elements] = {}
        after: dict[str, Elements] = {}
        for set_name, key in concerned:
            elements = self._elements.setdefault(set_name, {})
            if key in elements:
                before.setdefault(set_name, {})[key] = elements.pop(key)
            holders = self._holders.get((set_name, key))
            if holders:
                elements[key] = self._had[holders[-1]][set_name][key]
                after.setdefault(set_name, {})[key] = elements[key]
        for set_name in {**before, **after}:
            compare(
                changes,
                set_name,
                shapes[set_name],
                before.get(set_name, {}),
                after.get(set_name, {}),
            )

    def _replace(self, name: EndpointName, has: Mapping[str, Elements]) -> Iterator[_Key]:
        """Takes over what an endpoint has; returns all that it had or has."""
        had = self._had.pop(name, {})
        if has:
            self._had[name] = has
        for one in _keys(had):
            yield one
            set_name, key = one
            if key not in has.get(set_name, {}):
                self._holders[one].remove(name)
                if not self._holders[one]:
                    del self._holders[one]
        for one in _keys(has):
            yield one
            holders = self._holders.setdefault(one, [])
            if name not in holders:
                holders.append(name)


def _keys(elements: Mapping[str, Elements]) -> Iterator[_Key]:
    for set_name, items in elements.items():
        for key in items:
            yield set_name, key


def local_elements(
    interface: str,
    addresses: Sequence[bytes],
    mac: str,
    profile: Profile | None,
    guarded: Collection[Direction],
    *,
    dhcp: bool,
) -> Mapping[str, Elements]:
    """What an endpoint has in the sets and maps.

    Args:
        interface: In the node's namespace.
        addresses: Packed.
        mac: Its own; empty: it is not known.
        profile: None: it is closed.
        guarded: Directions in which rules are in force.
        dhcp: A guest asks the node who it is.
    """
    name = interface_key(interface)
    found: dict[str, Elements] = {
        table_names.INTERFACES: {name: ""},
        table_names.ITSELF: {name + name: ""},
    }
    if dhcp:
        found[table_names.GUESTS] = {name: ""}
    for direction in guarded:
        found[_GUARDED[direction]] = {name: ""}
    if any(len(address) == _LENGTH_6 for address in addresses):
        found[table_names.SPEAKS_6] = {name: ""}
        if mac:
            found[table_names.LINK_6] = {name + _link_address(mac): ""}
        else:
            found[table_names.ANY_LINK_6] = {name: ""}
    for address in addresses:
        version = 4 if len(address) == 4 else 6
        found.setdefault(_NAMES[version], {})[name + address] = ""
        if profile is not None:
            to = table_names.TO_4 if version == 4 else table_names.TO_6
            chain = table_names.profile(Direction.INGRESS, profile.ingress)
            found.setdefault(to, {})[address] = chain
    if profile is not None:
        chain = table_names.profile(Direction.EGRESS, profile.egress)
        found[table_names.FROM_ENDPOINT] = {name: chain}
    return found


def _link_address(mac: str) -> bytes:
    """The link-local address that a kernel makes of a MAC address: RFC 4291, appendix A."""
    packed = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes((packed[0] ^ 2,)) + packed[1:3] + b"\xff\xfe" + packed[3:]
    return _LINK_LOCAL + identifier
