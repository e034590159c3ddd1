"""Taking back what a name has."""

from __future__ import annotations

from collections.abc import Iterator

from services.common.errors import WrongState
from services.common.model.names import EndpointName, NodeName
from services.common.model.own_tenants import of_another_tenant
from services.ipam.deciding.commands import Release, Released, Terms
from services.ipam.ledger.ledger import Ledger


def release(ledger: Ledger, command: Release, terms: Terms) -> Released:
    """Takes back all addresses of a name; succeeds if it has none.

    Raises WrongState if they are another owner's than the caller says, and Forbidden if they are of
    a tenant that the caller is not limited to.
    """
    places = ledger.index.places(command.name)
    addresses = []
    for block, offset in places:
        if command.tenants is not None and block.tenant not in command.tenants:
            raise of_another_tenant(repr(command.name))
        if command.node is not None and command.node != block.node:
            # before its owner, which another node is not told
            raise WrongState(
                f"{command.name!r} is on node {block.node!r}",
                reason="OTHER_NODE",
                metadata={"name": command.name, "node": block.node},
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
    for block, offset in places:
        ledger.release(block, offset, terms.now)
    return Released(addresses)


def names_on(ledger: Ledger, node: NodeName) -> Iterator[EndpointName]:
    """The names that have addresses on a node, which may be released meanwhile."""
    seen = set()
    for block in tuple(ledger.index.by_node.get(node, {}).values()):
        for _, name in block.in_use():
            if name not in seen:
                seen.add(name)
                yield EndpointName(name)
