"""What a caller may see and ask whose certificate is limited to tenants."""

from __future__ import annotations

from typing import Final

from services.common.errors import NotFound
from services.common.model.names import Tenant
from services.common.model.own_tenants import of_another_tenant
from services.common.rpc.context import Context
from services.common.rpc.roles import bound_to_tenants, seen_tenants
from services.policy.engine.engine import Engine
from services.policy.explain.explain import Connection, Party
from services.policy.model import Endpoint

_METHODS: Final = "romana.policy.v1.PolicyService/"


def limits(method: str, context: Context) -> frozenset[Tenant] | None:
    """None: the caller is not limited."""
    return bound_to_tenants(_METHODS + method, context)


def visible(method: str, tenant: str, context: Context) -> frozenset[Tenant] | None:
    """Of which tenants a caller sees what he lists; see `seen_tenants`."""
    return seen_tenants(_METHODS + method, tenant, context)


def check_connection(engine: Engine, connection: Connection, tenants: frozenset[Tenant]) -> None:
    """Raises Forbidden and NotFound unless both sides are theirs, or no endpoint."""
    for party in (connection.source, connection.destination):
        endpoint = _endpoint(engine, party)
        if endpoint is None or endpoint.tenant in tenants:
            continue
        if party.address is not None:
            raise of_another_tenant(str(party.address))
        raise _not_found(endpoint)


def _endpoint(engine: Engine, party: Party) -> Endpoint | None:
    if party.address is not None:
        return engine.endpoint_at(party.address)
    return engine.endpoints.get(party.endpoint) if party.endpoint is not None else None


def _not_found(endpoint: Endpoint) -> NotFound:
    """As for one that is not there."""
    return NotFound(
        f"there is no endpoint {endpoint.name!r}",
        reason="ENDPOINT_NOT_FOUND",
        metadata={"endpoint": endpoint.name},
    )
