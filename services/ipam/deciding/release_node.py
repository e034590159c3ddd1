"""What happens to what is in use on nodes that are gone.

A release is written down before it begins. That a node is gone is proved by each transaction, which
compares its key as absent (`Unsaved.absent`); if it came back, nothing is done.
"""

from __future__ import annotations

from services.common.model.names import NodeName
from services.ipam.deciding.commands import (
    CancelNodeRelease,
    ForgetNode,
    NodeReleased,
    PlanNodeRelease,
    Release,
    ReleaseNode,
    Terms,
)
from services.ipam.deciding.release import names_on, release
from services.ipam.deciding.unreadable import can_write
from services.ipam.ledger.ledger import Ledger
from services.ipam.model import ADDRESSES_MOST, Allocation

_KEYS_EACH = 2 * ADDRESSES_MOST
_KEYS_OF_VISIT = 3
"""Its page, and the claims of two nodes."""


def nodes_in_use(ledger: Ledger) -> set[NodeName]:
    index = ledger.index
    here = {
        node
        for node, blocks in index.by_node.items()
        if any(block.used > len(block.visits or ()) for block in blocks.values())
    }
    visited = {
        block.location(offset) for block in index.visited.values() for offset in block.visits or ()
    }
    return here | visited


def plan(ledger: Ledger, command: PlanNodeRelease) -> None:
    if not ledger.has_node(command.node):
        ledger.unsaved.absent.add(command.node)
        ledger.change_node_release(command.node, command.plan)


def cancel(ledger: Ledger, command: CancelNodeRelease) -> None:
    ledger.change_node_release(command.node, None)


def forget(ledger: Ledger, command: ForgetNode, terms: Terms) -> NodeReleased | None:
    """Forgets a node on which nothing is in use; None: it is there."""
    if ledger.has_node(command.node):
        return None
    ledger.unsaved.absent.add(command.node)
    return NodeReleased((), is_done=_forget(ledger, command.node, terms.keys_most - 1))


def _forget(ledger: Ledger, node: NodeName, keys_most: int) -> bool:
    """Forgets its claim, and that it was ready for what is moving there: who comes by its name
    knows nothing of that. Says whether all of it fitted; of an empty transaction some does."""
    for block in ledger.index.visited.values():
        for offset, visit in tuple((block.visits or {}).items()):
            if visit.to == node and visit.ready and can_write(ledger, [(block, offset)]):
                keys = ledger.unsaved.operations
                if keys and keys + _KEYS_OF_VISIT > keys_most:
                    return False
                ledger.change_visit(block, offset, visit._replace(ready=False))
    ledger.unsaved.forget_node(node)
    return True


def release_some(ledger: Ledger, command: ReleaseNode, terms: Terms) -> NodeReleased | None:
    """Releases names of a node, as many as fit; None: it is there. What is ready on another node
    goes on there.

    What cannot be read stays, and the release with it: it is tried again.
    """
    node = command.node
    if ledger.has_node(node):
        return None
    ledger.unsaved.absent.add(node)
    released: list[Allocation] = []
    keys_most = terms.keys_most - 2  # its record and its claim
    left = False
    for name in names_on(ledger, node):
        if not can_write(ledger, ledger.index.places(name)):
            left = True
            continue
        keys = ledger.unsaved.operations
        if keys and keys + _KEYS_EACH > keys_most:
            return NodeReleased(released, is_done=False)
        owner = ledger.index.places(name)[0][0].owner._replace(node=node)
        found = release(ledger, Release(name, node=node), terms)
        released += [Allocation(name, owner, address) for address in found.addresses]
    if left:
        return NodeReleased(released, is_done=True)
    if not _forget(ledger, node, keys_most):
        return NodeReleased(released, is_done=False)
    ledger.change_node_release(node, None)
    return NodeReleased(released, is_done=True)
