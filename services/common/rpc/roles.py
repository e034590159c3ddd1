"""Refuses callers whose role may not call a method, or not for the node that they name.

Who may call what is in `role_table`. It is looked up once per method, when a server is built. What
a node names in a stream is checked where its first message is read, by `identity.check_node`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from services.common.errors import Forbidden
from services.common.model.names import NodeName, Tenant
from services.common.model.own_tenants import not_this_tenant
from services.common.rpc.context import Context
from services.common.rpc.identity import (
    NODE_URI,
    TENANT_URI,
    URI,
    Caller,
    Role,
    caller_of,
    not_this_node,
)
from services.common.rpc.revoked import RevokedCertificates
from services.common.rpc.role_table import NOBODY, ROWS, Row


def guarded(
    method: str, behaviour: Callable[[Any, Context], Any], revoked: RevokedCertificates
) -> Callable[[Any, Context], Any]:
    """A handler that refuses callers who may not call `method`, `package.Service/Method`."""
    row = ROWS.get(method, NOBODY)

    async def checked(request: object, context: Context) -> object:
        caller = caller_of(context)
        if caller is not None:
            revoked.check(context)
            check(row, caller, request)
        return await behaviour(request, context)

    return checked


def bound(method: str, context: Context) -> frozenset[NodeName] | None:
    """The nodes that a caller of a method is bound to, as their agent; None: it may name any.

    For what only the method itself can see. Without TLS nobody is bound.
    """
    caller = caller_of(context)
    if caller is None or caller.roles & ROWS[method].roles != {Role.NODE}:
        return None
    return caller.nodes


def bound_to_tenants(method: str, context: Context) -> frozenset[Tenant] | None:
    """The tenants that a caller of a method is limited to; None: to none."""
    caller = caller_of(context)
    if caller is None or caller.roles & ROWS[method].roles != {Role.TENANT}:
        return None
    return caller.tenants


def seen_tenants(method: str, tenant: str, context: Context) -> frozenset[Tenant] | None:
    """The tenants whose things a caller of a method sees, who asks for one tenant's or (empty) for
    everybody's; None: all. Raises Forbidden for another tenant's."""
    tenants = bound_to_tenants(method, context)
    if tenants is not None and tenant and tenant not in tenants:
        raise not_this_tenant(tenant)
    return tenants


def check(row: Row, caller: Caller, request: Any) -> None:
    """Raises Forbidden unless the caller may make the request."""
    allowed = caller.roles & row.roles
    if not allowed:
        raise _no_role(row, caller)
    if allowed == {Role.NODE} and row.named is not None:
        for node in row.named(request):
            if node not in caller.nodes:
                raise not_this_node(node)
    if allowed == {Role.TENANT} and row.of_tenants is not None:
        for tenant in row.of_tenants(request):
            if tenant not in caller.tenants:
                raise not_this_tenant(tenant)


def _either(words: Sequence[str]) -> str:
    return " or ".join((", ".join(words[:-1]), words[-1])) if words[1:] else words[0]


def _no_role(row: Row, caller: Caller) -> Forbidden:
    if not row.roles:
        return Forbidden("nobody may call that over the network", reason="NOT_SERVED_HERE")
    named = {Role.NODE: NODE_URI + "NAME", Role.TENANT: TENANT_URI + "NAME"}
    uris = [named.get(role, URI + role) for role in Role]
    wanted = [uri for role, uri in zip(Role, uris, strict=True) if role in row.roles]
    if not caller.roles:
        return Forbidden(
            f"this certificate has no role, and may do nothing: it bears no URI {_either(uris)}",
            reason="NO_ROLE",
        )
    operators_only = row.roles <= {Role.OPERATOR, Role.SERVICE, Role.TENANT}
    return Forbidden(
        f"that is for {_either(wanted)}: this certificate bears {', '.join(caller.uris)}",
        reason="NOT_OPERATOR" if operators_only else "OTHER_ROLE",
    )
