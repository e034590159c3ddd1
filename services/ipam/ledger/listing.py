"""Walks over blocks and addresses in the order of networks and addresses, in pages."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.common.model.names import NetworkName, NodeName, Tenant
from services.ipam.ledger.blocks import Block
from services.ipam.ledger.index import Place
from services.ipam.ledger.ledger import Ledger


@dataclass(frozen=True, slots=True)
class BlockFilter:
    """Which blocks are meant; what is empty is not looked at."""

    node: str = ""
    tenant: str = ""
    segment: str = ""
    network: str = ""
    prefix: str = ""
    tenants: frozenset[Tenant] | None = None
    """None: any."""

    def matches(self, block: Block) -> bool:
        return self.node in {"", block.node} and self.matches_but_for_node(block)

    def may_have_addresses(self, block: Block) -> bool:
        """Says whether addresses of a block may be meant, which may be on other nodes than it."""
        here = self.matches(block)
        return here or (
            any(visit.node == self.node for visit in (block.visits or {}).values())
            and self.matches_but_for_node(block)
        )

    def matches_but_for_node(self, block: Block) -> bool:
        return (
            self.tenant in {"", block.tenant}
            and self.segment in {"", block.segment}
            and self.network in {"", block.network}
            and self.prefix in {"", str(block)}
            and (self.tenants is None or block.tenant in self.tenants)
        )


def blocks_after(
    ledger: Ledger, block_filter: BlockFilter, after: Place | None, *, visited: bool = False
) -> Iterator[Block]:
    """The blocks at and after a place, by network and address; with `visited`, also those of other
    nodes with addresses that may be on the node that is asked for."""
    index = ledger.index
    places: Sequence[Place]
    if block_filter.node:
        of_node = index.by_node.get(NodeName(block_filter.node), {})
        places = sorted({*of_node, *index.visited} if visited else of_node)
    else:
        places = index.sorted_places()
    start = bisect_left(places, after) if after is not None else 0
    for position in range(start, len(places)):
        block = index.blocks[places[position]]
        if block_filter.matches_but_for_node(block):
            yield block


def list_blocks(
    ledger: Ledger, block_filter: BlockFilter, after: Place | None, most: int
) -> tuple[list[Block], Place | None]:
    """A page of blocks, and the place to go on at if there are more."""
    page: list[Block] = []
    for block in blocks_after(ledger, block_filter, after):
        if len(page) == most:
            return page, block.place
        page.append(block)
    return page, None


def list_addresses(
    ledger: Ledger, block_filter: BlockFilter, after: tuple[NetworkName, int] | None, most: int
) -> tuple[list[tuple[Block, int]], tuple[NetworkName, int] | None]:
    """A page of addresses as block and offset, and the address to go on at if there are more."""
    page: list[tuple[Block, int]] = []
    start = None
    if after is not None:
        # the block that the address lies in begins at or before it
        held = ledger.index.block_at(after[0], after[1])
        start = (after[0], held.base) if held is not None else after
    for block in blocks_after(ledger, block_filter, start, visited=True):
        for offset, _ in block.in_use():
            address = block.base + offset
            if block_filter.node not in {"", block.location(offset)}:
                continue
            if after is not None and block.network == after[0] and address < after[1]:
                continue
            if len(page) == most:
                return page, (block.network, address)
            page.append((block, offset))
    return page, None
