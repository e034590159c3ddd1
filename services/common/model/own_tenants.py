"""What is a tenant's own, for people whose certificate is limited to tenants."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from services.common.errors import Forbidden
from services.common.model.names import Tenant

REASON: Final = "NOT_THIS_TENANT"


def not_this_tenant(tenant: str) -> Forbidden:
    """The error for acting for a tenant without its certificate."""
    if not tenant:
        return Forbidden(
            "this certificate is limited to tenants: say which one is meant",
            REASON,
        )
    return Forbidden(
        f"this certificate may not act for tenant {tenant[:253]!r}: it does not bear the URI "
        f"romana:tenant:{tenant[:253]}",
        REASON,
        metadata={"tenant": tenant[:253]},
    )


def of_another_tenant(what: str) -> Forbidden:
    """The error for what another tenant has; it does not say which one."""
    return Forbidden(f"{what} is not of a tenant that this certificate is limited to", REASON)


def is_network_of(network_tenants: Collection[Tenant], own: frozenset[Tenant]) -> bool:
    """Whether a network serves these tenants alone."""
    return bool(network_tenants) and own.issuperset(network_tenants)
