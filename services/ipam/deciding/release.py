"""Taking back what a name has."""

from __future__ import annotations

from collections.abc import Iterator

from services.common.errors import WrongState
from services.common.model.names import EndpointName, NodeName
from services.common.model.own_tenants import of_another_tenant
from services.ipam.deciding.commands import Release, Released, Terms
from services.ipam.deciding.unreadable import refuse_unreadable
from services.ipam.deciding.visit import go_on_elsewhere
from services.ipam.ledger.ledger import Ledger


def release(ledger: Ledger, command: Release, terms: Terms) -> Released:
    """Takes back all addresses of a name; succeeds if it has none.

    What is ready on another node goes on there when the node that it was on lets go of it: a VM's
    guest that has migrated ends on the source, perhaps before it is heard on the target.

    Raises WrongState if they are another owner's than the caller says, Forbidden if they are of a
    tenant that the caller is not limited to, and Unavailable where their record cannot be read.
    """
    places = ledger.index.places(command.name)
    addresses = []
    for block, offset in places:
        visit = block.visit(offset)
        if command.tenants is not None and block.tenant not in command.tenants:
            raise of_another_tenant(repr(command.name))
        if command.node is not None and command.node == visit.to:
            refuse_unreadable(ledger, command.name, places)
            return _no_longer_ready(ledger, command.name)
        if command.node is not None and command.node != visit.node:
            # compared before the owner: another node is not told whose the name is
            raise WrongState(
                f"{command.name!r} is on node {visit.node!r}",
                reason="OTHER_NODE",
                metadata={"name": command.name, "node": visit.node},
            )
        if command.tenant is not None and (command.tenant, command.segment) != (
            block.tenant,
            block.segment,
        ):
            raise WrongState(
                f"{command.name!r} belongs to tenant {block.tenant!r}, segment {block.segment!r}",
                reason="OTHER_OWNER",
                metadata={"name": command.name, "tenant": block.tenant, "segment": block.segment},
            )
        addresses.append(block.allocated(offset))
    refuse_unreadable(ledger, command.name, places)
    if command.node is not None and go_on_elsewhere(ledger, places):
        return Released(())
    for block, offset in places:
        ledger.release(block, offset, terms.now)
    return Released(addresses)


def _no_longer_ready(ledger: Ledger, name: EndpointName) -> Released:
    """The node that it moves to lets go of it: it has no address there to give back."""
    for block, offset in ledger.index.places(name):
        visit = block.visit(offset)
        if visit.ready:
            ledger.change_visit(block, offset, visit._replace(ready=False))
    return Released(())


def names_on(ledger: Ledger, node: NodeName) -> Iterator[EndpointName]:
    """The names that have addresses on a node, which may be released meanwhile."""
    yield from dict.fromkeys(EndpointName(name) for _, _, name in ledger.index.on_node(node))
