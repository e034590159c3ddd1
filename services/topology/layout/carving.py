"""Carves the prefixes of groups out of the networks of their topology.

n sibling groups take the next power of two of equal slots; a single one keeps its parent's prefix.
The networks of a topology, of both families, share the slots, so that a group is the same part of
each. A group may name its prefix on a network instead; siblings then stay clear of it. What was
carved before stays where it is, see `slots`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network

from services.common.errors import Violation
from services.common.model.layout import Group, Layout, Topology
from services.common.model.names import GroupPath, NetworkName
from services.common.model.network import Network, Prefix
from services.topology.layout.slots import Extent, Places, Share, assign, clashes
from services.topology.model.spec import GroupSpec, Spec, TopologySpec

MAX_SLOT_BITS = 16
"""At one level, as in `check`."""


def carve(spec: Spec, previous: Layout, problems: list[Violation]) -> Layout:
    """The layout that the spec asks for; what has no room is added to `problems`."""
    carver = _Carver(spec, previous, problems)
    return Layout(
        networks=spec.networks,
        topologies=tuple(
            carver.topology(topology) for topology in spec.topologies if topology.networks
        ),
    )


class _Carver:
    """Knows what was carved before, by path."""

    def __init__(self, spec: Spec, previous: Layout, problems: list[Violation]) -> None:
        self._networks: Mapping[NetworkName, Network] = {n.name: n for n in spec.networks}
        self._problems = problems
        self._held: dict[GroupPath, Group] = {}
        self._held_slots: dict[str, int] = {}
        for topology in previous.topologies:
            self._held_slots[topology.name] = topology.slots
            for group in topology.walk():
                if len(group.pinned_prefixes) < len(topology.networks):
                    self._held[group.path] = group
                self._held_slots[group.path] = group.slots

    def topology(self, spec: TopologySpec) -> Topology:
        prefixes = {name: self._networks[name].cidr for name in spec.networks}
        groups, slots = self._level(spec.groups, prefixes, spec.name, spec.groups_at, spec.slots)
        return Topology(spec.name, spec.networks, groups, slots)

    def _level(
        self,
        groups: Sequence[GroupSpec],
        parents: Mapping[NetworkName, Prefix],
        path: str,
        at: str,
        asked: int,
    ) -> tuple[tuple[Group, ...], int]:
        pins = [self._pins(group, parents) for group in groups]
        self._disjoint(groups, pins)
        slotted = [n for n, pin in enumerate(pins) if len(pin) < len(parents)]
        shares = self._shares([groups[n] for n in slotted], slotted, pins, parents)
        wrong = clashes(shares, asked)
        for number, why in wrong:
            self._problems.append(Violation(_join(groups[slotted[number]].at, "slot"), why))
        places: Places | None = Places(max(asked, 1), ())
        if slotted:
            limits = {
                name: min(
                    MAX_SLOT_BITS, self._networks[name].block_length - parents[name].prefixlen
                )
                for name in parents
                if any(name not in pins[n] for n in slotted)
            }
            tightest = min(limits, key=lambda name: limits[name])
            limit = 1 << max(0, limits[tightest])
            held = self._held_slots.get(path, 0)
            places = None if wrong else assign(shares, asked=asked, held=held, limit=limit)
            if places is None:
                if not wrong:
                    self._full(at, shares, asked, parents[tightest], tightest, limit)
                return (), 1
        assert places is not None
        first = dict(zip(slotted, places.first, strict=True))
        carved: list[Group] = []
        for number, group in enumerate(groups):
            slot = first.get(number, 0)
            prefixes = {
                name: pins[number].get(name) or _slice(parent, slot, places.slots, group.width)
                for name, parent in parents.items()
            }
            carved.append(self._group(group, slot, prefixes, pins[number]))
        return tuple(carved), places.slots

    def _group(
        self,
        spec: GroupSpec,
        slot: int,
        prefixes: Mapping[NetworkName, Prefix],
        pins: Mapping[NetworkName, Prefix],
    ) -> Group:
        children: tuple[Group, ...] = ()
        slots = 1
        if spec.groups:
            children, slots = self._level(
                spec.groups, prefixes, spec.path, _join(spec.at, "groups"), spec.slots
            )
        return Group(
            path=spec.path,
            name=spec.name,
            assignment=spec.assignment,
            routing=spec.routing,
            weight=spec.weight,
            pinned_prefixes=pins,
            slot=slot,
            slots=slots,
            prefixes=prefixes,
            groups=children,
        )

    def _shares(
        self,
        groups: Sequence[GroupSpec],
        numbers: Sequence[int],
        pins: Sequence[Mapping[NetworkName, Prefix]],
        parents: Mapping[NetworkName, Prefix],
    ) -> list[Share]:
        everything = [
            (number, name, _extent(prefix, parents[name]))
            for number, pinned in enumerate(pins)
            for name, prefix in pinned.items()
        ]
        common = tuple(extent for _, _, extent in everything)
        shares = []
        for number, group in zip(numbers, groups, strict=True):
            avoid = common
            if pins[number]:
                avoid = tuple(
                    extent
                    for owner, name, extent in everything
                    if owner != number and name not in pins[number]
                )
            held = self._held.get(group.path)
            shares.append(
                Share(
                    width=group.width,
                    slot=group.slot,
                    held=held.slot if held else None,
                    held_width=_width(held) if held else group.width,
                    avoid=avoid,
                )
            )
        return shares

    def _pins(
        self, group: GroupSpec, parents: Mapping[NetworkName, Prefix]
    ) -> dict[NetworkName, Prefix]:
        """The prefixes that it names, without those that cannot be."""
        found = {}
        for name, prefix in group.prefixes.items():
            at = f"{_join(group.at, 'prefixes')}[{name!r}]"
            parent = parents[name]
            block_length = self._networks[name].block_length
            if not _inside(prefix, parent):
                self._problems.append(
                    Violation(at, f"{prefix} is not inside {parent}, the prefix of its parent")
                )
            elif prefix.prefixlen > block_length:
                self._problems.append(
                    Violation(at, f"{prefix} has no room for a block, which is a /{block_length}")
                )
            else:
                found[name] = prefix
        return found

    def _disjoint(
        self, groups: Sequence[GroupSpec], pins: Sequence[Mapping[NetworkName, Prefix]]
    ) -> None:
        by_network: dict[NetworkName, list[tuple[int, int, int]]] = {}
        for number, pinned in enumerate(pins):
            for name, prefix in pinned.items():
                by_network.setdefault(name, []).append(
                    (int(prefix.network_address), prefix.prefixlen, number)
                )
        for name, entries in by_network.items():
            outer: Prefix | None = None
            owner = 0
            for _, _, number in sorted(entries):
                prefix = pins[number][name]
                if outer is None or prefix.network_address not in outer:
                    outer, owner = prefix, number
                    continue
                later, earlier = max(owner, number), min(owner, number)
                self._problems.append(
                    Violation(
                        f"{_join(groups[later].at, 'prefixes')}[{name!r}]",
                        f"{pins[later][name]} overlaps {pins[earlier][name]} of "
                        f"{groups[earlier].path!r}",
                    )
                )

    def _full(
        self,
        at: str,
        shares: Sequence[Share],
        asked: int,
        parent: Prefix,
        name: NetworkName,
        limit: int,
    ) -> None:
        need = sum(share.width for share in shares)
        groups = f"{len(shares)} groups" if len(shares) > 1 else "one group"
        message = f"there is no room for {groups} that take {need} equal parts"
        if asked and need > asked:
            message += f": it is to be divided into {asked} slots; raise `slots` or leave it out"
        else:
            length = self._networks[name].block_length
            message += (
                f" of {parent} on network {name!r}, which can be divided into {limit} at most "
                f"with blocks of /{length}"
            )
            if any(share.avoid for share in shares):
                message += " and has prefixes in it that other groups named"
        self._problems.append(Violation(at, message))


def _width(group: Group) -> int:
    return 1 << max(0, group.weight - 1).bit_length()


def _join(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


def _inside(prefix: Prefix, parent: Prefix) -> bool:
    return (
        prefix.version == parent.version
        and prefix.prefixlen >= parent.prefixlen
        and prefix.network_address in parent
    )


def _extent(prefix: Prefix, parent: Prefix) -> Extent:
    start = int(parent.network_address)
    return Extent(
        int(prefix.network_address) - start,
        int(prefix.broadcast_address) - start,
        parent.max_prefixlen - parent.prefixlen,
    )


def _slice(parent: Prefix, slot: int, slots: int, width: int) -> Prefix:
    length = parent.prefixlen + (slots.bit_length() - 1)
    first = int(parent.network_address) + (slot << (parent.max_prefixlen - length))
    length -= width.bit_length() - 1
    if isinstance(parent, IPv4Network):
        return IPv4Network((first, length))
    return IPv6Network((first, length))
