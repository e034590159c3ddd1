"""Why there is no address: per network, for whoever is refused and for schedulers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from services.common.errors import NotFound
from services.common.model.names import Tenant
from services.common.model.node import Node
from services.ipam.ledger.areas import Area
from services.ipam.ledger.ledger import Ledger
from services.ipam.model import AddressSpec, NoAddress, Owner, Refused, Why, address_text


def nothing_left(
    ledger: Ledger, node: Node, owner: Owner, spec: AddressSpec, now: int, ordinal: int
) -> Exception:
    refusals = list(unusable(ledger, node, owner.tenant, spec))
    tried = {
        area.network.name: refuse(area, owner, now)
        for area in ledger.areas_for(node, owner.tenant, spec.network, spec.bits)
    }
    return no_address(spec, ordinal, owner, [*tried.values(), *refusals])


def refuse(area: Area, owner: Owner, now: int) -> Refused:
    """Why an area has no room for an owner."""
    holding = area.holdings.get(owner)
    first = area.first_emptied()
    ripe = [at for at in (holding.ripe_at() if holding else None,) if at is not None]
    ripe += [first.due] if first is not None else []
    if ripe:
        wait = max(-((now - min(ripe)) // 1000), 1)
        return Refused(area.network.name, Why.RESTING, area.path, area.resting, wait)
    full = area.blocks == area.slots
    return Refused(area.network.name, Why.GROUP_FULL if full else Why.RESERVED, area.path)


def unusable(ledger: Ledger, node: Node, tenant: Tenant, spec: AddressSpec) -> Iterator[Refused]:
    """The networks that are out of the question for an address, and why.

    Raises NotFound for a network that does not exist and a tenant that no network is for.
    """
    if spec.network is not None and spec.network not in ledger.networks:
        raise NotFound(
            f"there is no network {spec.network!r}",
            reason="NETWORK_NOT_FOUND",
            metadata={"field": "network", "network": spec.network},
        )
    if not any(network.allows(tenant) for network in ledger.layout.networks):
        raise NotFound(
            f"no network is for tenant {tenant!r}, and none is open to all",
            reason="TENANT_NOT_FOUND",
            metadata={"field": "tenant", "tenant": tenant},
        )
    for name, net in ledger.networks.items():
        if spec.network not in {None, name}:
            continue
        if not net.network.allows(tenant):
            yield Refused(name, Why.NOT_THIS_TENANT)
        elif spec.bits not in {0, net.bits}:
            yield Refused(name, Why.OTHER_FAMILY)
        elif not node.is_attached(name):
            yield Refused(name, Why.NODE_NOT_ATTACHED)
        elif ledger.area_of_node(node, name) is None:
            yield Refused(name, Why.NO_GROUP)


def cordoned(ledger: Ledger, node: Node, tenant: Tenant, spec: AddressSpec) -> Sequence[Refused]:
    """Why a cordoned node gives nothing, by network; raises as `unusable`."""
    areas = ledger.areas_for(node, tenant, spec.network, spec.bits)
    closed = [Refused(area.network.name, Why.NODE_CORDONED, area.path) for area in areas]
    return [*closed, *unusable(ledger, node, tenant, spec)]


def no_address(
    spec: AddressSpec, ordinal: int, owner: Owner, refusals: Sequence[Refused]
) -> NoAddress:
    text = address_text(spec.address, spec.bits) if spec.address is not None else "an address"
    return NoAddress(
        f"cannot give {text} to tenant {owner.tenant!r} on node {owner.node!r}: "
        + "; ".join(str(item) for item in _telling(refusals)),
        metadata={"node": owner.node, "tenant": owner.tenant, "segment": owner.segment},
        ordinal=ordinal,
        refusals=tuple(refusals),
    )


def _telling(refusals: Sequence[Refused]) -> Sequence[Refused]:
    """Leaves out other tenants' networks where there is something better to say."""
    mine = [item for item in refusals if item.why is not Why.NOT_THIS_TENANT]
    return mine or refusals
