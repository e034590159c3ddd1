"""What an agent says of an endpoint, compared with what ipam gave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from services.common.model.names import EndpointName
from services.common.model.network import Address
from services.policy.model import Endpoint
from services.policy.store.ipam_feed import Holder


@dataclass(frozen=True, slots=True)
class Compared:
    """What became of a claim."""

    believed: Endpoint | None
    """What is believed of it, with the addresses that ipam gave; None: nothing is."""
    is_arriving: bool
    """The endpoint is on another node, and moving to this one."""
    wrong: str
    """What is not believed, for people."""


def compare(
    claim: Endpoint, allocation: EndpointName, holder: Callable[[Address], Holder | None]
) -> Compared:
    """Compares a claim with what ipam gave.

    `allocation`: the name under which ipam has its addresses. Two claims of one name are never both
    believed, since a name has its addresses on one node; but for one that arrives.
    """
    assert claim.node is not None
    given = Holder(allocation, claim.node, claim.tenant, claim.segment)
    held = {address: holder(address) for address in claim.addresses}
    believed = tuple(address for address in claim.addresses if _agrees(held[address], given))
    wrong = [
        f"{address} {_what(held[address], given)}"
        for address in claim.addresses
        if not _agrees(held[address], given)
    ]
    if not believed:
        return Compared(None, is_arriving=False, wrong="; ".join(wrong) or "it has no address")
    arrives = any(there is not None and there.node != claim.node for there in held.values())
    return Compared(replace(claim, addresses=believed), arrives, "; ".join(wrong))


def _agrees(holder: Holder | None, given: Holder) -> bool:
    if holder is None:
        return False
    node = given.node if holder.to == given.node else holder.node
    return given == holder._replace(node=node, to=None)


def _what(holder: Holder | None, given: Holder) -> str:
    if holder is None or holder.name != given.name:
        return "is not allocated to it"  # whose it is, if anybody's, may change unheard
    if holder.node != given.node:
        return f"is allocated on node {holder.node!r}"
    return f"is allocated to tenant {holder.tenant!r}, segment {holder.segment!r}"
