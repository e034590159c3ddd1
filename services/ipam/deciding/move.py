"""Taking addresses along to another node of their group.

A block is one node's, so a block moves as a whole: what rests in it goes with it. Where somebody
else has an address in it, nothing moves.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.common.errors import NotFound, WrongState, node_not_found
from services.ipam.deciding.commands import Move, Moved
from services.ipam.ledger.blocks import Block
from services.ipam.ledger.index import Place, allocation
from services.ipam.ledger.ledger import Ledger

PAGES_MOST = 16
"""Of a block that moves: they are written in one transaction."""


def move(ledger: Ledger, command: Move) -> Moved:
    """Takes all addresses of a name along; there already, they stay.

    Raises NotFound for an unknown node or a name without addresses, WrongState (NOT_MOVABLE) with
    the reason, for people, if one of them cannot be had there.
    """
    places = ledger.index.places(command.name)
    if not places:
        raise NotFound(f"{command.name!r} has no addresses", reason="ALLOCATION_NOT_FOUND")
    block, offset = places[0]
    before = block.location(offset)
    if before != command.node:
        blocks: dict[Place, Block] = {block.place: block for block, _ in places}
        for each in blocks.values():
            _check(ledger, command, each)
        for each in blocks.values():
            ledger.hand_over(each, command.node)
        places = ledger.index.places(command.name)
    return Moved([allocation(block, offset) for block, offset in places], before)


def _check(ledger: Ledger, command: Move, block: Block) -> None:
    node = ledger.nodes.get(command.node)
    if node is None:
        raise node_not_found(command.node)
    if node.cordoned:
        raise _refusal(command, block, f"node {node.name!r} is cordoned")
    area = ledger.area_of_node(node, block.network)
    if area is None or not node.is_attached(block.network):
        raise _refusal(command, block, f"node {node.name!r} is not on network {block.network!r}")
    if area is not block.area:
        group = "no group" if block.area is None else f"group {block.area.path!r}"
        raise _refusal(
            command, block, f"node {node.name!r} is in group {area.path!r}, and they are of {group}"
        )
    if block.visits:
        raise _refusal(command, block, f"block {block} has addresses that visit other nodes")
    others = sorted({name for _, name in block.in_use()} - {command.name})
    if others:
        raise _refusal(command, block, f"{_listed(others)} has an address in their block {block}")
    if ledger.is_partly_unreadable(block):
        raise _refusal(command, block, f"a record of their block {block} cannot be read")
    if block.pages > PAGES_MOST:
        raise _refusal(command, block, f"their block {block} is too large to move")


def _refusal(command: Move, block: Block, why: str) -> WrongState:
    return WrongState(
        f"the addresses of {command.name!r} stay on node {block.node!r}: {why}",
        reason="NOT_MOVABLE",
        metadata={"name": command.name, "node": block.node},
    )


def _listed(names: Sequence[str]) -> str:
    return repr(names[0]) if len(names) == 1 else f"{names[0]!r} and {len(names) - 1} more"
