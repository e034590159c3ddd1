"""What is a tenant's own: what people may write and see whose certificate is limited to tenants.

A policy is its tenants' own if it is of the tier TENANT and every target is of endpoints of these
tenants by name. So it never judges what is somebody else's, and never comes before what the
operators of the whole cluster wrote (ADMIN). Whom it lets in is the tenant's to say.
"""

from __future__ import annotations

from collections.abc import Iterable

from services.common.errors import Forbidden
from services.common.model.names import Tenant
from services.common.model.own_tenants import REASON, not_this_tenant, of_another_tenant
from services.common.model.rules import Tier
from services.policy.checks.devices import groups_of
from services.policy.model import Endpoint, EndpointSelector, Policy, Target, TenantRecord


def is_own(policy: Policy, tenants: frozenset[Tenant]) -> bool:
    return policy.tier is Tier.TENANT and all(_is_own(one, tenants) for one in policy.targets)


def check_policy(policy: Policy, tenants: frozenset[Tenant]) -> None:
    """Raises Forbidden for what a limited caller may not write."""
    name = f"policy {policy.name!r}"
    if policy.tier is not Tier.TENANT:
        raise Forbidden(
            f"{name} is of tier {policy.tier.name}: this certificate is limited to tenants, and "
            "may write those of tier TENANT",
            REASON,
        )
    for number, target in enumerate(policy.targets):
        if not _is_own(target, tenants):
            raise Forbidden(
                f"{name}: targets[{number}] is not limited to endpoints of "
                f"{' or '.join(sorted(tenants))}, as this certificate is",
                REASON,
                metadata={"field": f"targets[{number}]", "policy": policy.name},
            )
    for at, _, _ in groups_of(policy):
        raise Forbidden(
            f"{name}: {at} names a group of devices: that is for operators of the whole cluster",
            REASON,
            metadata={"field": at, "policy": policy.name},
        )


def check_stored(policy: Policy, tenants: frozenset[Tenant]) -> None:
    """Raises Forbidden if what a limited caller wants to change is not its own."""
    if not is_own(policy, tenants):
        raise of_another_tenant(f"policy {policy.name!r}")


def check_tenants(records: Iterable[TenantRecord], tenants: frozenset[Tenant]) -> None:
    for record in records:
        if record.name not in tenants:
            raise not_this_tenant(record.name)


def check_endpoint(endpoint: Endpoint, known: Endpoint | None, tenants: frozenset[Tenant]) -> None:
    """Raises Forbidden unless only labels and ports of an endpoint of its own are said."""
    if known is None or known.tenant not in tenants:
        raise of_another_tenant(f"endpoint {endpoint.name!r}")
    if (endpoint.tenant, endpoint.segment) != (known.tenant, known.segment) or endpoint.wanted:
        raise Forbidden(
            f"endpoint {endpoint.name!r}: a certificate that is limited to tenants may say labels "
            "and ports; tenant, segment and where it is attached are its orchestrator's to say",
            REASON,
        )


def _is_own(target: Target, tenants: frozenset[Tenant]) -> bool:
    return (
        isinstance(target, EndpointSelector)
        and bool(target.tenants)
        and tenants.issuperset(target.tenants)
    )
