"""Finding blocks and addresses: by place, node, name and address.

A name's addresses are kept as codes, block sequence and offset in one int: an object per address
would cost more memory than all else that is known of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from sys import intern
from typing import Final

from services.common.model.names import EndpointName, NetworkName, NodeName, Segment, Tenant
from services.ipam.ledger.blocks import Block
from services.ipam.model import Allocation, Owner

OFFSET_BITS: Final = 16
_OFFSETS: Final = (1 << OFFSET_BITS) - 1

Place = tuple[NetworkName, int]
"""Network and first address of a block: its identity."""


class Index:
    """All blocks that are held, and the names of what is in use in them."""

    def __init__(self) -> None:
        self.blocks: dict[Place, Block] = {}
        self.by_node: dict[NodeName, dict[Place, Block]] = {}
        self.visited: dict[Place, Block] = {}
        """Blocks with addresses that are elsewhere, or about to move."""
        self.used = 0
        """Addresses in use."""
        self.codes: dict[str, int | tuple[int, ...]] = {}
        """By name: the block's sequence above OFFSET_BITS, and the offset. For `add` and
        `discard`, and for who takes many."""
        self._by_sequence: dict[int, Block] = {}
        self._sequence = 0
        self._sorted: list[Place] | None = None
        self._shapes: Counter[tuple[NetworkName, int, int]] = Counter()
        """How many blocks there are per network, family (bits) and prefix length."""

    def make(self, place: Place, length: int, bits: int, owner: Owner, *, born: int) -> Block:
        """A new block with nothing in use, which is not inserted yet."""
        self._sequence += 1
        return Block(
            NetworkName(intern(place[0])),
            place[1],
            length,
            bits,
            node=NodeName(intern(owner.node)),
            tenant=Tenant(intern(owner.tenant)),
            segment=Segment(intern(owner.segment)),
            born=born,
            sequence=self._sequence,
        )

    def insert(self, block: Block) -> None:
        """Adds a block and what is in use in it."""
        place = block.place
        self.blocks[place] = block
        self._sorted = None
        self.by_node.setdefault(block.node, {})[place] = block
        self._by_sequence[block.sequence] = block
        self._shapes[block.network, block.bits, block.length] += 1
        block.live = True
        self.note_visits(block)
        for offset, name in block.in_use():
            self.add(block, offset, name)

    def remove(self, block: Block) -> None:
        """Removes a block and the names of what is in use in it."""
        place = block.place
        for offset, name in block.in_use():
            self.discard(block, offset, name)
        del self.blocks[place]
        self.visited.pop(place, None)
        self._sorted = None
        of_node = self.by_node[block.node]
        del of_node[place]
        if not of_node:
            del self.by_node[block.node]
        del self._by_sequence[block.sequence]
        shape = (block.network, block.bits, block.length)
        self._shapes[shape] -= 1
        if not self._shapes[shape]:
            del self._shapes[shape]
        block.live = False

    def add(self, block: Block, offset: int, name: str) -> None:
        """Says that a name has an address of a block that is inserted."""
        self.used += 1
        code = block.sequence << OFFSET_BITS | offset
        codes = self.codes.get(name)
        if codes is None:
            self.codes[name] = code
        else:
            several = (codes, code) if isinstance(codes, int) else (*codes, code)
            self.codes[name] = tuple(sorted(several, key=self._ordinal))

    def discard(self, block: Block, offset: int, name: str) -> None:
        """Says that a name no longer has an address."""
        self.used -= 1
        codes = self.codes[name]
        if isinstance(codes, int):
            del self.codes[name]
            return
        gone = block.sequence << OFFSET_BITS | offset
        rest = tuple(code for code in codes if code != gone)
        self.codes[name] = rest[0] if len(rest) == 1 else rest

    def note_visits(self, block: Block) -> None:
        """Says that a block that is inserted may have visits, or no more."""
        if block.visits:
            self.visited[block.place] = block
        else:
            self.visited.pop(block.place, None)

    def on_node(self, node: NodeName) -> Iterator[tuple[Block, int, str]]:
        """Block, offset and name of what is on a node, by blocks' places."""
        of_node = self.by_node.get(node, {})
        for place in sorted({*of_node, *self.visited}):
            block = self.blocks[place]
            if block.visits:
                for offset, name in block.in_use():
                    if block.location(offset) == node:
                        yield block, offset, name
            elif block.node == node:
                for offset, name in block.in_use():
                    yield block, offset, name

    def visits_by_node(self) -> Counter[NodeName]:
        """How many more addresses are on each node than in its blocks; negative: fewer."""
        found: Counter[NodeName] = Counter()
        for block in self.visited.values():
            for visit in (block.visits or {}).values():
                found[visit.node] += 1
                found[block.node] -= 1
        return found

    def __contains__(self, name: str) -> bool:
        return name in self.codes

    def places(self, name: str) -> Sequence[tuple[Block, int]]:
        """Blocks and offsets of what a name has, in the order of its request."""
        codes = self.codes.get(name)
        if codes is None:
            return ()
        if isinstance(codes, int):
            return ((self._by_sequence[codes >> OFFSET_BITS], codes & _OFFSETS),)
        return [(self._by_sequence[code >> OFFSET_BITS], code & _OFFSETS) for code in codes]

    def sorted_places(self) -> Sequence[Place]:
        """All places by network and address; kept until a block comes or goes."""
        if self._sorted is None:
            self._sorted = sorted(self.blocks)
        return self._sorted

    def block_of(self, address: int, bits: int) -> Block | None:
        """The block that an address lies in. Blocks never overlap."""
        for network, family, length in self._shapes:
            if family == bits:
                block = self._block(network, address, bits, length)
                if block is not None:
                    return block
        return None

    def block_at(self, network: NetworkName, address: int) -> Block | None:
        """The same, of one network."""
        for name, bits, length in self._shapes:
            if name == network:
                block = self._block(network, address, bits, length)
                if block is not None:
                    return block
        return None

    def _block(self, network: NetworkName, address: int, bits: int, length: int) -> Block | None:
        base = address >> (bits - length) << (bits - length)
        block = self.blocks.get((network, base))
        return block if block is not None and block.length == length else None

    def _ordinal(self, code: int) -> int:
        return self._by_sequence[code >> OFFSET_BITS].ordinal(code & _OFFSETS)


def allocation(block: Block, offset: int) -> Allocation:
    """One address in use, with its name and owner."""
    name = block.names[offset]
    assert name is not None
    owner = Owner(block.location(offset), block.tenant, block.segment)
    return Allocation(EndpointName(name), owner, block.allocated(offset))
