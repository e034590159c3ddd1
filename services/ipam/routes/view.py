"""The aggregated routes of every network, kept equal to the blocks.

Routes stay inside the prefix of a leaf group, so that what fills up elsewhere never changes them,
and cover no reserved address: those belong to machines that are not nodes. But an address that is
in use although it is reserved keeps its route: whoever reserved it allowed that.

`sync` brings them up to date, at the cost of what changed: of blocks that were named, and where
something was set aside or is so no more. Only of another ledger does it look at all blocks, and
then too only real changes reach the tables and `drain_moved`. To be called when the ledger holds
nothing that is not in the store; all else only looks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, summarize_address_range
from typing import NamedTuple

from services.common.model.names import NetworkName, NodeName
from services.ipam.ledger.areas import Area, Interval
from services.ipam.ledger.blocks import Block
from services.ipam.ledger.index import Place
from services.ipam.ledger.ledger import Ledger
from services.ipam.model import IPV4_BITS
from services.ipam.routes.ortc import RouteTable
from services.ipam.routes.trie import Prefix


@dataclass(frozen=True, slots=True)
class Route:
    """An aggregated prefix and the node it leads to."""

    network: NetworkName
    base: int
    length: int
    bits: int
    node: NodeName


class RoutePrefix(NamedTuple):
    """A prefix of a network to which a route may lead."""

    network: NetworkName
    base: int
    length: int
    bits: int


class _Part:
    __slots__ = (
        "_forbidden",
        "area",
        "base",
        "bits",
        "length",
        "network",
        "path",
        "table",
    )

    def __init__(self, area: Area) -> None:
        self.network = area.network.name
        self.path = area.path
        self.base = area.base
        self.length = area.length
        self.bits = area.bits
        self.area: Area | None = None
        """None: it has not been taken over, or belongs to a ledger that is gone."""
        self.table = RouteTable(area.base, area.length, area.bits)
        self._forbidden: dict[Interval, tuple[Prefix, ...]] = {}

    def fits(self, area: Area) -> bool:
        """Says whether the table can be that of another area."""
        return (self.base, self.length, self.bits) == (area.base, area.length, area.bits)

    def realign(self, area: Area) -> Sequence[Interval]:
        """Makes it the table of an area with the same prefix; returns what was reserved or restored
        since, which is what it costs if it is the same area."""
        changed = area.drain_changed()
        if area is not self.area or changed is None:
            self.area = area
            changed = {*self._forbidden, *area.intervals}
        moved = []
        for interval in changed:
            forbidden = interval in self._forbidden
            if forbidden == (interval in area.intervals):
                continue
            moved.append(interval)
            if forbidden:
                for at in self._forbidden.pop(interval):
                    self.table.allow(*at)
            else:
                prefixes = self._forbidden[interval] = tuple(_prefixes(interval, area.bits))
                for at in prefixes:
                    self.table.forbid(*at)
        return moved


_What = tuple[NodeName, bool]
"""Where addresses are, and whether they are reserved all the same."""


class _Piece(NamedTuple):
    """A prefix, and where it is."""

    base: int
    length: int
    node: NodeName
    despite: bool
    """It is reserved, and in use."""


class _Held(NamedTuple):
    """A block as a table has it."""

    part: _Part
    length: int
    pieces: tuple[_Piece, ...]
    """The whole block, unless an address of it is on another node, or reserved and in use."""


class RoutesView:
    def __init__(self) -> None:
        self._ledger: Ledger | None = None
        self._version = -1
        self._parts: dict[tuple[NetworkName, str], _Part] = {}
        self._known: dict[Place, _Held] = {}
        self._changed: dict[Place, None] = {}
        self._touched: dict[int, _Part] = {}
        self._moved: dict[RoutePrefix, None] = {}

    def changed(self, places: Iterable[Place]) -> None:
        """Says that blocks may have come, gone, changed hands or areas."""
        if self._ledger is not None:
            self._changed.update(dict.fromkeys(places))

    def detach(self) -> None:
        """Lets go of a ledger that is thrown away; routes stay until `sync` is told of another."""
        self._ledger = None
        for part in self._parts.values():
            part.area = None

    def sync(self, ledger: Ledger) -> None:
        if self._ledger is not ledger or self._version != ledger.version:
            self._realign(ledger)
        self._take_blocks(ledger)
        for part in self._touched.values():
            changes = part.table.flush()
            network, bits = part.network, part.bits
            for base, length in (*changes.updated, *changes.removed):
                self._moved[RoutePrefix(network, base, length, bits)] = None
        self._touched.clear()

    def drain_moved(self) -> Iterable[RoutePrefix]:
        """Where routes changed since this was called: `leads_to` says what is there now."""
        moved, self._moved = self._moved, {}
        return moved

    def leads_to(self, at: RoutePrefix) -> NodeName | None:
        """The node that a route leads to; None: there is no such route."""
        net = self._ledger.networks.get(at.network) if self._ledger is not None else None
        area = net.area_of(at.base) if net is not None else None
        if area is None or area.bits != at.bits:
            return None
        node = self._parts[at.network, area.path].table.routes.get((at.base, at.length))
        return NodeName(node) if node is not None else None

    def own(self, node: NodeName) -> list[Route]:
        """The prefixes by which others reach a node."""
        return [
            Route(part.network, base, length, part.bits, node)
            for part in self._parts.values()
            for base, length in sorted(part.table.prefixes_of(node))
        ]

    def remote(self, ledger: Ledger, node: NodeName) -> list[Route]:
        """The routes from a node to the others on the networks it is on."""
        origin = ledger.nodes[node]
        return [
            Route(part.network, base, length, part.bits, NodeName(target))
            for part in self._parts.values()
            if ledger.area_of_node(origin, part.network) is not None
            for (base, length), target in sorted(part.table.routes.items())
            if target != node
        ]

    def counts(self, network: NetworkName) -> Counter[str]:
        """How many routes lead to each node on a network."""
        found: Counter[str] = Counter()
        for (name, _), part in self._parts.items():
            if name == network:
                for node, count in part.table.counts():
                    found[node] += count
        return found

    def _realign(self, ledger: Ledger) -> None:
        """Takes over the areas of a ledger; tables stay where the prefix is the same."""
        before, self._parts = self._parts, {}
        if self._ledger is not ledger:
            self._changed = dict.fromkeys([*self._known, *ledger.index.blocks])
        self._ledger, self._version = ledger, ledger.version
        for net in ledger.networks.values():
            for area in net.areas.values():
                key = (area.network.name, area.path)
                part = before.get(key)
                if part is not None and part.fits(area):
                    del before[key]
                else:
                    part = _Part(area)
                self._parts[key] = part
                for interval in part.realign(area):
                    self._touched[id(part)] = part
                    held = ledger.held(area.network.name, interval)
                    self._changed.update((block.place, None) for block in held if block.used)
        for part in before.values():
            network, bits = part.network, part.bits
            for base, length in part.table.routes:
                self._moved[RoutePrefix(network, base, length, bits)] = None

    def _take_blocks(self, ledger: Ledger) -> None:
        """Blocks that changed: first all that are gone, since others may have taken their place."""
        fresh: list[tuple[Place, _Held]] = []
        for place in self._changed:
            block = ledger.index.blocks.get(place)
            held = None
            if block is not None and block.area is not None:
                part = self._parts[place[0], block.area.path]
                held = _Held(part, block.length, _pieces(block))
            known = self._known.get(place)
            if known == held:
                continue
            if known is not None:
                del self._known[place]
                self._clear(known, held)
            if held is not None:
                fresh.append((place, held))
        self._changed.clear()
        for place, held in fresh:
            for piece in held.pieces:
                held.part.table.set(piece.base, piece.length, piece.node, despite=piece.despite)
            self._known[place] = held
            self._touch(held.part)

    def _clear(self, known: _Held, held: _Held | None) -> None:
        """Takes out what is not to be there any more, or in another part."""
        kept: set[tuple[int, int]] = set()
        if held is not None and held.part is known.part:
            kept = {(piece.base, piece.length) for piece in held.pieces}
        for piece in known.pieces:
            if (piece.base, piece.length) not in kept:
                known.part.table.clear(piece.base, piece.length)
                self._touch(known.part)

    def _touch(self, part: _Part) -> None:
        if self._parts.get((part.network, part.path)) is part:
            self._touched[id(part)] = part


def _pieces(block: Block) -> tuple[_Piece, ...]:
    """Prefixes of a block, and where they are."""
    apart: dict[int, _What] = {
        offset: (visit.node, False)
        for offset, visit in (block.visits or {}).items()
        if visit.node != block.node
    }
    apart |= {offset: (block.location(offset), True) for offset in block.reserved_in_use()}
    if not apart:
        return (_Piece(block.base, block.length, block.node, despite=False),)
    pieces: list[_Piece] = []
    end = block.base
    for first, last, what in _runs(apart):
        pieces += _pieces_of(end, block.base + first, block.bits, block.node, despite=False)
        end = block.base + last + 1
        pieces += _pieces_of(block.base + first, end, block.bits, what[0], despite=what[1])
    stop = block.base + block.size
    return (*pieces, *_pieces_of(end, stop, block.bits, block.node, despite=False))


def _runs(apart: Mapping[int, _What]) -> Iterator[tuple[int, int, _What]]:
    """First and last of neighbours of which the same is said."""
    first = last = -1
    said: _What | None = None
    for offset, what in sorted(apart.items()):
        if said is not None and (offset, what) != (last + 1, said):
            yield first, last, said
            said = None
        if said is None:
            first, said = offset, what
        last = offset
    if said is not None:
        yield first, last, said


def _pieces_of(
    start: int, stop: int, bits: int, node: NodeName, *, despite: bool
) -> Iterator[_Piece]:
    if start < stop:
        for base, length in _prefixes(Interval(start, stop), bits):
            yield _Piece(base, length, node, despite)


def _prefixes(interval: Interval, bits: int) -> Iterable[Prefix]:
    start, stop = interval
    if stop - start == 1:  # as nodes' and gateways' are
        return ((start, bits),)
    make = IPv4Address if bits == IPV4_BITS else IPv6Address
    return (
        (int(prefix.network_address), prefix.prefixlen)
        for prefix in summarize_address_range(make(start), make(stop - 1))
    )
