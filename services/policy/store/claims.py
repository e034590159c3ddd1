"""What an agent says of an endpoint, compared with what ipam gave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from services.common.model.names import EndpointName
from services.common.model.network import Address
from services.policy.model import Endpoint
from services.policy.store.ipam_feed import Holder


def compare(
    claim: Endpoint, allocation: EndpointName, holder: Callable[[Address], Holder | None]
) -> tuple[Endpoint | None, str]:
    """What is believed of a claim, with the addresses that ipam gave; and what is not, for people.

    `allocation`: the name under which ipam has its addresses. None: nothing is. Two claims of one
    name are never both believed, since a name has its addresses on one node.
    """
    assert claim.node is not None
    given = Holder(allocation, claim.node, claim.tenant, claim.segment)
    held = {address: holder(address) for address in claim.addresses}
    believed = tuple(address for address in claim.addresses if held[address] == given)
    wrong = [
        f"{address} {_what(held[address], given)}"
        for address in claim.addresses
        if held[address] != given
    ]
    if not believed:
        return None, "; ".join(wrong) or "it has no address"
    return replace(claim, addresses=believed), "; ".join(wrong)


def _what(holder: Holder | None, given: Holder) -> str:
    if holder is None or holder.name != given.name:
        return "is not allocated to it"  # whose it is, if anybody's, may change unheard
    if holder.node != given.node:
        return f"is allocated on node {holder.node!r}"
    return f"is allocated to tenant {holder.tenant!r}, segment {holder.segment!r}"
