"""Deciding which addresses a name gets.

The order in which addresses are tried is that of DESIGN.md, section 5: the oldest block of the
owner on the node that has room; in it the lowest address that never was in use, then the one that
has rested longest; else a new block where the network's placement strategy puts it.

What is done before a refusal is raised is undone by `execute`.
"""

from __future__ import annotations

from services.common.errors import AlreadyExists, WrongState, node_not_found
from services.common.model.node import Node
from services.ipam.deciding.commands import Allocate, Allocated, Terms
from services.ipam.deciding.explain import cordoned, no_address, nothing_left, unusable
from services.ipam.deciding.rested import close_one
from services.ipam.ledger.areas import Area
from services.ipam.ledger.blocks import Block
from services.ipam.ledger.ledger import Ledger
from services.ipam.model import AddressSpec, Owner, Refused, Why, address_text


def allocate(ledger: Ledger, command: Allocate, terms: Terms) -> Allocated:
    """Gives a name its addresses.

    Idempotent by name. Raises NotFound for an unknown node, network or tenant, AlreadyExists for a
    name that stands for something else, NoAddress.
    """
    name, owner = command.name, command.owner
    if name in ledger.index:
        return _again(ledger, command)
    node = ledger.nodes.get(owner.node)
    if node is None:
        raise node_not_found(owner.node)
    addresses = []
    for ordinal, spec in enumerate(command.addresses):
        if spec.address is None:
            block, offset = _any(ledger, node, owner, spec, terms.now, ordinal)
        else:
            block, offset = _exactly(ledger, node, owner, spec, ordinal)
        ledger.use(block, offset, name, terms.stamp, ordinal)
        addresses.append(block.allocated(offset))
    return Allocated(addresses)


def _again(ledger: Ledger, command: Allocate) -> Allocated:
    """What a name has already, if it is what the command asks for."""
    places = ledger.index.places(command.name)
    block, offset = places[0]
    visit, owner = block.visit(offset), command.owner
    same = (
        (block.tenant, block.segment) == owner[1:]
        and owner.node in {visit.node, visit.to}
        and len(places) == len(command.addresses)
        and all(
            _satisfies(place, spec) for place, spec in zip(places, command.addresses, strict=True)
        )
    )
    if not same:
        raise AlreadyExists(
            f"{command.name!r} already has "
            + ", ".join(address_text(item.base + offset, item.bits) for item, offset in places)
            + f" on node {visit.node!r} for tenant {block.tenant!r}, segment {block.segment!r}",
            reason="NAME_TAKEN",
            metadata={
                "name": command.name,
                "node": visit.node,
                "tenant": block.tenant,
                "segment": block.segment,
            },
        )
    arriving = owner.node != visit.node
    if arriving and not command.knows_arriving:
        raise WrongState(
            f"{command.name!r} is on node {visit.node!r} and moves to node {owner.node!r}, whose "
            "agent does not know of moves: upgrade it, or abort the move",
            reason="MOVES_UNKNOWN",
            metadata={"name": command.name, "node": owner.node},
        )
    return Allocated(
        [item.allocated(offset) for item, offset in places], existed=True, arriving=arriving
    )


def _satisfies(place: tuple[Block, int], spec: AddressSpec) -> bool:
    block, offset = place
    return (
        spec.network in {None, block.network}
        and spec.bits in {0, block.bits}
        and spec.address in {None, block.base + offset}
    )


def _any(
    ledger: Ledger, node: Node, owner: Owner, spec: AddressSpec, now: int, ordinal: int
) -> tuple[Block, int]:
    """Block and offset of an address that may be any."""
    if node.cordoned:
        raise no_address(spec, ordinal, owner, cordoned(ledger, node, owner.tenant, spec))
    areas = ledger.areas_for(node, owner.tenant, spec.network, spec.bits)
    for area in areas:
        holding = area.holdings.get(owner)
        block = holding.oldest_with_room(now) if holding is not None else None
        if block is None:
            slot = area.pool.choose(owner.node)
            if slot is None and close_one(ledger, area, now):
                slot = area.pool.choose(owner.node)
            if slot is None:
                continue
            block = ledger.open_block(area, slot, owner)
        free = block.free
        if free:
            return block, (free & -free).bit_length() - 1
        idle = block.longest_idle()
        assert idle is not None
        return block, idle.offset
    raise nothing_left(ledger, node, owner, spec, now, ordinal)


def _exactly(
    ledger: Ledger, node: Node, owner: Owner, spec: AddressSpec, ordinal: int
) -> tuple[Block, int]:
    """Block and offset of the address that is asked for, which its block's owner gets even if it
    rests."""
    address = spec.address
    assert address is not None
    refusals = []
    for area in ledger.areas_for(node, owner.tenant, spec.network, spec.bits):
        found = _at(ledger, area, owner, address)
        if not isinstance(found, Why):
            return found
        refusals.append(Refused(area.network.name, found, area.path))
    if not refusals:
        refusals = [*unusable(ledger, node, owner.tenant, spec)]
    raise no_address(spec, ordinal, owner, refusals)


def _at(ledger: Ledger, area: Area, owner: Owner, address: int) -> tuple[Block, int] | Why:
    """Block and offset of an address of an area, or why its owner cannot have it."""
    if not area.base <= address < area.stop:
        return Why.ADDRESS_OUTSIDE
    slot = area.slot(address)
    offset = address - area.slot_base(slot)
    block = ledger.index.blocks.get((area.network.name, area.slot_base(slot)))
    if block is None:
        if not area.pool.is_free(slot) or area.partial.get(slot, 0) >> offset & 1:
            return Why.ADDRESS_RESERVED
        return ledger.open_block(area, slot, owner), offset
    if block.area is not area:
        return Why.STRANDED
    if block.owner != owner:
        return Why.BLOCK_HELD_BY_OTHER
    if block.reserved >> offset & 1:
        return Why.ADDRESS_RESERVED
    return Why.ADDRESS_IN_USE if block.names[offset] is not None else (block, offset)
