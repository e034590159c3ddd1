"""Who is kept apart by default, as policies.

TENANT denies connections from endpoints of other tenants; SEGMENT also from other segments of the
same tenant. What comes from an address that no endpoint has is not its matter. What a tenant says
goes before what networks say; of an endpoint's networks the strictest counts.

Such a policy is asked after all others of its tier, so that its first rule, which lets the
endpoint's own tenant or segment through to its second, decides nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from services.common.model.names import Segment, Tenant
from services.common.model.network import Isolation
from services.common.model.rules import MAX_PRIORITY, Action, Direction, PolicyName, Tier
from services.policy.model import (
    EndpointSelector,
    Policy,
    PolicyNetwork,
    Rule,
    TenantRecord,
)

PRIORITY: Final = MAX_PRIORITY + 1
"""Lower than any that can be written."""
PREFIX: Final = "isolation/"
"""Of their names, `isolation/tenant/NAME` and `isolation/network/NAME`: what says so. Names that
people give have one slash at most."""
_STRICTNESS: Final = (Isolation.NONE, Isolation.TENANT, Isolation.SEGMENT)


@dataclass(frozen=True, slots=True)
class IsolatedBy:
    """How an endpoint is kept apart: equal ones share a policy."""

    policy: PolicyName
    tenant: Tenant
    segment: Segment | None
    """None: all of the tenant are let through."""


def isolated_by(
    tenant: TenantRecord, segment: Segment, networks: Iterable[PolicyNetwork]
) -> IsolatedBy | None:
    """How an endpoint on these networks is kept apart; None: it is not."""
    if tenant.isolation is not None:
        isolation, name = tenant.isolation, f"{PREFIX}tenant/{tenant.name}"
    else:
        strictest = min(
            networks, key=lambda one: (-_STRICTNESS.index(one.isolation), one.name), default=None
        )
        if strictest is None:
            return None
        isolation, name = strictest.isolation, f"{PREFIX}network/{strictest.name}"
    if isolation is Isolation.NONE:
        return None
    only = segment if isolation is Isolation.SEGMENT else None
    return IsolatedBy(PolicyName(name), tenant.name, only)


def policy_of(isolation: IsolatedBy) -> Policy:
    """The policy that does it. It has no targets: the engine knows whom it is for."""
    own = EndpointSelector(
        tenants=(isolation.tenant,),
        segments=() if isolation.segment is None else (isolation.segment,),
    )
    rules = (Rule(Action.ALLOW, (own,)), Rule(Action.DENY, (EndpointSelector(),)))
    return Policy(isolation.policy, Tier.BASELINE, (), {Direction.INGRESS: rules}, PRIORITY)
