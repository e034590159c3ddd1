"""Deciding which address a request gets, and why it gets none.

The order in which addresses are tried is that of DESIGN.md, section 5: the oldest block of the
owner on the node that has room; in it the lowest address that never was in use, then the one that
has rested longest; else a new block where the network's placement strategy puts it.

Every function here either does all of what it is asked or leaves the state as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop
from typing import Final

from services.common.errors import AlreadyExists, NotFound, WrongState
from services.common.model.names import NodeName, Tenant
from services.common.model.node import Node
from services.ipam.ledger.areas import Area, Owner
from services.ipam.ledger.blocks import Block
from services.ipam.ledger.ground import owner_of
from services.ipam.ledger.state import State
from services.ipam.model import (
    Allocated,
    NoAddress,
    Refused,
    Release,
    Released,
    Request,
    Want,
    Why,
    address_text,
)

WAKE_PAGES: Final = 32
"""How many pages of a large block `expire` writes at once, to fit into a transaction."""


def allocate(state: State, request: Request, now: int, stamp: int) -> Allocated:
    """Gives a request its addresses.

    `now` is the time by which addresses rest, in milliseconds; `stamp` is what the addresses get as
    the time of their allocation, Unix time in seconds.

    Idempotent by name. Raises NotFound for an unknown node, network or tenant, AlreadyExists for a
    name that stands for something else, NoAddress.
    """
    name, node_name, tenant, segment, wants = request
    if name in state.index:
        return _again(state, request)
    node = state.nodes.get(node_name)
    if node is None:
        raise NotFound(
            f"node {node_name!r} is not registered",
            reason="NODE_NOT_FOUND",
            metadata={"field": "node", "node": node_name},
        )
    owner = Owner(node_name, tenant, segment)
    mark = state.mark()
    given = []
    try:
        for ordinal, want in enumerate(wants):
            if want.address is None:
                block, offset = _any(state, node, owner, want, now, ordinal)
            else:
                block, offset = _exactly(state, node, owner, want, ordinal)
            state.use(block, offset, name, stamp, ordinal)
            given.append(block.given(offset))
    except Exception:
        state.rollback(mark)
        raise
    return Allocated(given, existed=False)


def release(state: State, release: Release, now: int) -> Released:
    """Takes back all addresses of a name; succeeds if it has none.

    Raises WrongState if they are another owner's than the caller says.
    """
    places = state.index.places(release.name)
    given = []
    for block, offset in places:
        if release.node is not None and release.node != block.node:
            # before its owner, which another node is not told
            raise WrongState(
                f"{release.name!r} is on node {block.node!r}",
                reason="OTHER_NODE",
                metadata={"name": release.name, "node": block.node},
            )
        if release.tenant is not None and (release.tenant, release.segment) != (
            block.tenant,
            block.segment,
        ):
            raise WrongState(
                f"{release.name!r} belongs to tenant {block.tenant!r}, segment {block.segment!r}",
                reason="OTHER_OWNER",
                metadata={"name": release.name, "tenant": block.tenant, "segment": block.segment},
            )
        given.append(block.given(offset))
    for block, offset in places:
        state.release(block, offset, now)
    return Released(given)


def expire(state: State, area: Area, now: int, most: int = 1) -> int:
    """Closes at most that many blocks of an area in which the last rest has ended."""
    closed = 0
    while area.empties and area.empties[0][0] <= now and closed < most:
        block = heappop(area.empties)[2]
        if not is_empty(block) or block.area is not area or block.rest is None:
            continue
        if block.rest[-1].time + area.delay > now:
            continue
        if not _close(state, block):
            area.note_empty(block)
        closed += 1
    return closed


def _close(state: State, block: Block) -> bool:
    """Closes an empty block, or writes some of its pages: of a large one all must be gone first."""
    if block.pages > 1 and block.rest:
        state.wake(block, WAKE_PAGES)
    if block.pages > 1 and block.rest:
        return False
    state.close_block(block)
    return True


def tidy(state: State, now: int, most: int) -> None:
    """Closes blocks that nobody needs any more, until it has written that many keys.

    The last block may make it WAKE_PAGES more.
    """
    end = state.operations + most
    for space in state.spaces.values():
        for area in space.areas.values():
            while state.operations < end and expire(state, area, now):
                pass
    for block in [block for block in state.strays.values() if not block.used]:
        if state.operations >= end:
            return
        _close(state, block)


def is_untidy(state: State, now: int) -> bool:
    """Says whether `tidy` would find something."""
    return any(
        area.empties and area.empties[0][0] <= now
        for space in state.spaces.values()
        for area in space.areas.values()
    ) or any(not block.used for block in state.strays.values())


def names_on(state: State, node: NodeName) -> Iterator[Release]:
    """What to release when a node is gone."""
    seen = set()
    for block in tuple(state.index.by_node.get(node, {}).values()):
        for _, name in block.in_use():
            if name not in seen:
                seen.add(name)
                yield Release(name, node=node)  # type: ignore[arg-type]


def _again(state: State, request: Request) -> Allocated:
    """What a name has already, if it is what the request asks for."""
    places = state.index.places(request.name)
    block = places[0][0]
    same = (
        (block.node, block.tenant, block.segment) == request[1:4]
        and len(places) == len(request.wants)
        and all(_satisfies(place, want) for place, want in zip(places, request.wants, strict=True))
    )
    if not same:
        raise AlreadyExists(
            f"{request.name!r} already has "
            + ", ".join(address_text(item.base + offset, item.bits) for item, offset in places)
            + f" on node {block.node!r} for tenant {block.tenant!r}, segment {block.segment!r}",
            reason="NAME_TAKEN",
            metadata={
                "name": request.name,
                "node": block.node,
                "tenant": block.tenant,
                "segment": block.segment,
            },
        )
    return Allocated([item.given(offset) for item, offset in places], existed=True)


def _satisfies(place: tuple[Block, int], want: Want) -> bool:
    block, offset = place
    return (
        want.network in {None, block.network}
        and want.bits in {0, block.bits}
        and want.address in {None, block.base + offset}
    )


def _any(
    state: State, node: Node, owner: Owner, want: Want, now: int, ordinal: int
) -> tuple[Block, int]:
    """Block and offset for a want of any address."""
    areas = state.areas_for(node, owner.tenant, want.network, want.bits)
    for area in areas:
        holding = area.holdings.get(owner)
        block = holding.oldest_with_room(now) if holding is not None else None
        if block is None:
            slot = area.space.choose(owner.node)
            if slot is None and expire(state, area, now, 1):
                slot = area.space.choose(owner.node)
            if slot is None:
                continue
            block = state.open_block(area, slot, owner)
        free = block.free
        if free:
            return block, (free & -free).bit_length() - 1
        idle = block.longest_idle()
        assert idle is not None
        return block, idle.offset
    raise _nothing(state, node, owner, want, now, ordinal)


def _exactly(state: State, node: Node, owner: Owner, want: Want, ordinal: int) -> tuple[Block, int]:
    """Block and offset for a want of one address. The block's owner may ask for one that rests."""
    address = want.address
    assert address is not None
    refusals = []
    for area in state.areas_for(node, owner.tenant, want.network, want.bits):
        found = _at(state, area, owner, address)
        if not isinstance(found, Why):
            return found
        refusals.append(Refused(area.network.name, found, area.path))
    if not refusals:
        refusals = [*unusable(state, node, owner.tenant, want)]
    raise _no_address(want, ordinal, owner, refusals)


def _at(state: State, area: Area, owner: Owner, address: int) -> tuple[Block, int] | Why:
    """Block and offset of an address of an area, or why its owner cannot have it."""
    if not area.base <= address < area.stop:
        return Why.ADDRESS_OUTSIDE
    slot = area.slot(address)
    offset = address - area.slot_base(slot)
    block = state.index.blocks.get((area.network.name, area.slot_base(slot)))
    if block is None:
        if not area.space.is_free(slot) or area.partial.get(slot, 0) >> offset & 1:
            return Why.ADDRESS_RESERVED
        return state.open_block(area, slot, owner), offset
    if block.area is not area:
        return Why.STRANDED
    if owner_of(block) != owner:
        return Why.BLOCK_HELD_BY_OTHER
    if block.reserved >> offset & 1:
        return Why.ADDRESS_RESERVED
    return Why.ADDRESS_IN_USE if block.names[offset] is not None else (block, offset)


def _nothing(
    state: State, node: Node, owner: Owner, want: Want, now: int, ordinal: int
) -> Exception:
    """Why no network gives the want an address."""
    refusals = list(unusable(state, node, owner.tenant, want))
    tried = {
        area.network.name: refuse(area, owner, now)
        for area in state.areas_for(node, owner.tenant, want.network, want.bits)
    }
    return _no_address(want, ordinal, owner, [*tried.values(), *refusals])


def refuse(area: Area, owner: Owner, now: int) -> Refused:
    """Why an area has no room for an owner."""
    holding = area.holdings.get(owner)
    ripe = [at for at in (holding.ripe_at() if holding else None,) if at is not None]
    ripe += [at for at, _, block in area.empties if is_empty(block)]
    if ripe:
        wait = max(-((now - min(ripe)) // 1000), 1)
        return Refused(area.network.name, Why.RESTING, area.path, area.resting, wait)
    full = area.blocks == area.slots
    return Refused(area.network.name, Why.GROUP_FULL if full else Why.RESERVED, area.path)


def is_empty(block: Block) -> bool:
    """Says whether a block is only held until the last rest in it ends."""
    return block.live and not block.used and bool(block.rest)


def unusable(state: State, node: Node, tenant: Tenant, want: Want) -> Iterator[Refused]:
    """The networks that are out of the question for a want, and why.

    Raises NotFound for a network that does not exist and a tenant that no network is for.
    """
    if want.network is not None and want.network not in state.spaces:
        raise NotFound(
            f"there is no network {want.network!r}",
            reason="NETWORK_NOT_FOUND",
            metadata={"field": "network", "network": want.network},
        )
    if not any(network.allows(tenant) for network in state.layout.networks):
        raise NotFound(
            f"no network is for tenant {tenant!r}, and none is open to all",
            reason="TENANT_NOT_FOUND",
            metadata={"field": "tenant", "tenant": tenant},
        )
    for name, space in state.spaces.items():
        if want.network not in {None, name}:
            continue
        if not space.network.allows(tenant):
            yield Refused(name, Why.NOT_THIS_TENANT)
        elif want.bits not in {0, space.bits}:
            yield Refused(name, Why.OTHER_FAMILY)
        elif not node.is_attached(name):
            yield Refused(name, Why.NODE_NOT_ATTACHED)
        elif state.area_of_node(node, name) is None:
            yield Refused(name, Why.NO_GROUP)


def _no_address(want: Want, ordinal: int, owner: Owner, refusals: list[Refused]) -> NoAddress:
    wanted = address_text(want.address, want.bits) if want.address is not None else "an address"
    return NoAddress(
        f"cannot give {wanted} to tenant {owner.tenant!r} on node {owner.node!r}: "
        + "; ".join(str(item) for item in _telling(refusals)),
        metadata={"node": owner.node, "tenant": owner.tenant, "segment": owner.segment},
        want=ordinal,
        refusals=tuple(refusals),
    )


def _telling(refusals: list[Refused]) -> list[Refused]:
    """Leaves out other tenants' networks where there is something better to say."""
    mine = [item for item in refusals if item.why is not Why.NOT_THIS_TENANT]
    return mine or refusals
