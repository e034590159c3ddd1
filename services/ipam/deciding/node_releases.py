"""What happens to what is in use on nodes that are gone.

A release is written down before it begins. That a node is gone is proved by each transaction, which
compares its key as absent; here is what they do.
"""

from __future__ import annotations

from services.common.model.names import NodeName
from services.ipam.deciding import allocation
from services.ipam.ledger.state import State
from services.ipam.model import WANTS_MOST, Allocation, NodeReleased

_OPERATIONS_EACH = 2 * WANTS_MOST


def in_use(state: State) -> set[NodeName]:
    """The nodes on which something is in use."""
    return {
        node
        for node, blocks in state.index.by_node.items()
        if any(block.used for block in blocks.values())
    }


def release_some(state: State, node: NodeName, now: int, most: int) -> NodeReleased:
    """Releases names of a node until `most` keys are to be written; `now` as for `release`."""
    released: list[Allocation] = []
    for item in allocation.names_on(state, node):
        if released and state.operations + _OPERATIONS_EACH > most:
            return NodeReleased(released, is_done=False)
        owner = state.index.places(item.name)[0][0]
        released += [
            Allocation(item.name, node, owner.tenant, owner.segment, given)
            for given in allocation.release(state, item, now).given
        ]
    return NodeReleased(released, is_done=True)
