"""What is in use, by block: as much of ipam's data as topology needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from services.common.model.names import NetworkName, NodeName
from services.common.model.network import Address
from services.common.records.blocks import PAGE_BITS

PAGE_SIZE: Final = 1 << PAGE_BITS


@dataclass(frozen=True, slots=True)
class BlockUse:
    """A block with addresses in use."""

    network: NetworkName
    base: int
    """Its first address."""
    length: int
    """Its prefix length."""
    node: NodeName
    used: int
    visits: bool = False
    """It is another node's block, and these of its addresses are on this node, or moving to it."""


@dataclass(frozen=True, slots=True)
class PageUse:
    """What one page of a block says."""

    length: int
    """The block's prefix length."""
    bits: int
    """The family's address length, 32 or 128."""
    node: NodeName
    offsets: int
    """A bit for each address in use, by its place in the page."""
    elsewhere: tuple[NodeName, ...] = ()
    """Other nodes that addresses are on, or moving to, each as often as it is said."""
    visited: tuple[NodeName, ...] = ()
    """Of these, those that they are on."""

    @property
    def used(self) -> int:
        return self.offsets.bit_count()


@dataclass(frozen=True, slots=True)
class AddressUse:
    """Where an address that is in use is kept."""

    network: NetworkName
    base: int
    """First address of its block."""
    bits: int
    offset: int
    """In the block."""
    node: NodeName


class InUse:
    """What is in use at one revision."""

    def __init__(
        self,
        pages: Mapping[tuple[NetworkName, int], Mapping[int, PageUse]],
        shapes: Mapping[tuple[NetworkName, int, int], int],
    ) -> None:
        """Takes pages by block and number, and how many there are of each network, family and
        prefix length of a block."""
        self._known = pages
        self._known_shapes = shapes

    def page(self, network: NetworkName, base: int, page: int) -> PageUse | None:
        """What a page says; None if nothing is in use there."""
        return self._known.get((network, base), {}).get(page)

    def user_of(self, address: Address) -> AddressUse | None:
        """Where an address is kept; None: it is not in use. Costs what there are of networks."""
        value, bits = int(address), address.max_prefixlen
        for network, family, length in self._known_shapes:
            if family != bits or length > bits:
                continue
            offset = value & ((1 << bits - length) - 1)
            page, place = divmod(offset, PAGE_SIZE)
            use = self.page(network, value - offset, page)
            if use is not None and use.length == length and use.offsets >> place & 1:
                return AddressUse(network, value - offset, bits, offset, use.node)
        return None

    def blocks(self) -> Iterator[BlockUse]:
        """Every block with addresses in use, and again for each node that some of them visit."""
        for key, pages in self._known.items():
            yield self._block(key)
            for node, number in Counter(
                node for page in pages.values() for node in page.elsewhere
            ).items():
                yield self._visits(key, node, number)

    def _block(self, key: tuple[NetworkName, int]) -> BlockUse:
        pages = self._known[key]
        first = next(iter(pages.values()))
        return BlockUse(*key, first.length, first.node, sum(page.used for page in pages.values()))

    def _visits(self, key: tuple[NetworkName, int], node: NodeName, number: int) -> BlockUse:
        length = next(iter(self._known[key].values())).length
        return BlockUse(*key, length, node, number, visits=True)


class Usage(InUse):
    """Follows what is in use; one update costs the same however many there are."""

    def __init__(self) -> None:
        self._pages: dict[tuple[NetworkName, int], Mapping[int, PageUse]] = {}
        """What is in here is exchanged, never changed: snapshots have it too."""
        self._shapes: Counter[tuple[NetworkName, int, int]] = Counter()
        super().__init__(self._pages, self._shapes)
        self._nodes: dict[NodeName, int] = {}
        """Addresses in use in a node's blocks, and of others' blocks on the node."""
        self._there: dict[NodeName, int] = {}
        """Addresses that are on a node."""
        self._held: dict[NodeName, dict[tuple[NetworkName, int], int]] = {}
        """How many pages of each block are the node's."""
        self._visited: dict[NodeName, dict[tuple[NetworkName, int], int]] = {}
        """How many addresses of others' blocks are on the node, or moving to it."""

    def snapshot(self) -> InUse:
        """What is in use now, for who looks at it elsewhere while it changes."""
        return InUse(dict(self._pages), dict(self._shapes))

    def put(self, network: NetworkName, base: int, page: int, use: PageUse | None) -> None:
        """Replaces what a page says; None or nothing in use: it says nothing any more."""
        key = (network, base)
        pages = dict(self._pages.get(key, {}))
        before = pages.pop(page, None)
        if before is not None:
            self._count(before, -1)
            _change(self._held, before.node, key, -1)
            for node in before.elsewhere:
                _change(self._visited, node, key, -1)
            shape = (network, before.bits, before.length)
            self._shapes[shape] -= 1
            if not self._shapes[shape]:
                del self._shapes[shape]
        if use is not None and use.used:
            pages[page] = use
            self._count(use, 1)
            _change(self._held, use.node, key, 1)
            for node in use.elsewhere:
                _change(self._visited, node, key, 1)
            self._shapes[network, use.bits, use.length] += 1
        if pages:
            self._pages[key] = pages
        else:
            self._pages.pop(key, None)

    def blocks_of(self, node: NodeName) -> Iterator[BlockUse]:
        """Those of them that the node holds, and those whose addresses visit it."""
        yield from map(self._block, self._held.get(node, ()))
        for key, number in self._visited.get(node, {}).items():
            yield self._visits(key, node, number)

    def of_node(self, node: NodeName) -> int:
        """Addresses in use in its blocks, wherever they are, and of others' blocks that are there
        or about to be."""
        return self._nodes.get(node, 0)

    def there(self, node: NodeName) -> int:
        """Addresses that are on the node, in whosever blocks: those that go with it."""
        return self._there.get(node, 0)

    def _count(self, use: PageUse, sign: int) -> None:
        _add(self._nodes, use.node, sign * use.used)
        _add(self._there, use.node, sign * (use.used - len(use.visited)))
        for node in use.elsewhere:
            _add(self._nodes, node, sign)
        for node in use.visited:
            _add(self._there, node, sign)


def _add(counts: dict[NodeName, int], node: NodeName, number: int) -> None:
    """Adds to a count; what is nothing is not there."""
    total = counts.get(node, 0) + number
    if total:
        counts[node] = total
    else:
        counts.pop(node, None)


def _change(
    counts: dict[NodeName, dict[tuple[NetworkName, int], int]],
    node: NodeName,
    key: tuple[NetworkName, int],
    number: int,
) -> None:
    """Adds to a count; what is nothing is not there."""
    of_node = counts.setdefault(node, {})
    of_node[key] = of_node.get(key, 0) + number
    if not of_node[key]:
        del of_node[key]
    if not of_node:
        del counts[node]
