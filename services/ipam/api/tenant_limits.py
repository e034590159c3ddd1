"""What a caller may see and take who is limited to tenants."""

from __future__ import annotations

from typing import Final

from services.common.errors import AlreadyExists
from services.common.model.names import NetworkName, Tenant
from services.common.model.own_tenants import is_network_of
from services.common.rpc.context import Context
from services.common.rpc.roles import bound_to_tenants, seen_tenants
from services.ipam.deciding.commands import Result
from services.ipam.ledger.ledger import Ledger

METHODS: Final = "romana.ipam.v1.IpamService/"


def limits(method: str, context: Context) -> frozenset[Tenant] | None:
    """None: the caller is not limited."""
    return bound_to_tenants(METHODS + method, context)


def visible(method: str, tenant: str, context: Context) -> frozenset[Tenant] | None:
    """Of which tenants a caller sees what he lists; see `seen_tenants`."""
    return seen_tenants(METHODS + method, tenant, context)


def is_visible(ledger: Ledger, network: NetworkName, tenants: frozenset[Tenant] | None) -> bool:
    """Whether reservations on a network are the caller's."""
    net = ledger.networks.get(network)
    return tenants is None or (net is not None and is_network_of(net.network.tenants, tenants))


def without_others(results: list[Result], context: Context) -> list[Result]:
    """Does not say who has a name that is taken, unless a tenant of the caller's."""
    tenants = limits("AllocateAddress", context)
    return results if tenants is None else [_without(one, tenants) for one in results]


def _without(result: Result, tenants: frozenset[Tenant]) -> Result:
    taken = isinstance(result, AlreadyExists) and result.metadata.get("tenant") not in tenants
    if not taken:
        return result
    assert isinstance(result, AlreadyExists)
    return AlreadyExists("the name has addresses already, of another tenant", result.reason)
