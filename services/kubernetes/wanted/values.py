"""What Romana is told of a cluster, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.common.errors import Violation
from services.common.model.names import EndpointName, NodeName, Segment, Tenant
from services.common.model.network import Address, Isolation
from services.common.model.node import Attachment
from services.kubernetes.objects.pods import NamedPort


@dataclass(frozen=True, slots=True)
class AddressWish:
    """One address that a pod wants."""

    network: str = ""
    """Empty: any of the tenant's."""
    family: int = 0
    """4, 6, or 0: either."""
    address: str = ""
    """Exactly this one; empty: any."""


@dataclass(frozen=True, slots=True)
class WantedTenant:
    """A namespace as a tenant."""

    name: Tenant
    labels: Mapping[str, str]
    isolation: Isolation | None


@dataclass(frozen=True, slots=True)
class WantedEndpoint:
    """A pod as an endpoint."""

    name: EndpointName
    tenant: Tenant
    segment: Segment
    labels: Mapping[str, str]
    ports: tuple[NamedPort, ...]
    node: NodeName | None = None
    """None: not yet bound."""
    addresses: tuple[AddressWish, ...] = ()
    """Empty: one of any network."""
    allocation: str = ""
    """Its name in ipam; empty: the endpoint's. Otherwise its addresses are not the node's to give
    back: they stay for the next pod of that name."""
    is_ending: bool = False
    """Its addresses are no longer wanted once it is detached."""
    refusal: str = ""
    """Why it must not be attached."""


@dataclass(frozen=True, slots=True)
class WantedNode:
    """A node for topology."""

    name: NodeName
    address: Address | None
    other_address: Address | None
    """Of the other family."""
    labels: Mapping[str, str]
    attachments: tuple[Attachment, ...] | None
    """None: nothing is said of them, and what topology has stays."""


@dataclass(frozen=True, slots=True)
class Read:
    """What annotations say, and what is wrong with them."""

    addresses: tuple[AddressWish, ...] = ()
    problems: tuple[Violation, ...] = field(default=())


def allocation_name(endpoint: WantedEndpoint) -> str:
    """The name of its addresses in ipam."""
    return endpoint.allocation or endpoint.name


def wishes_of(endpoint: WantedEndpoint) -> tuple[AddressWish, ...]:
    """The addresses that it is to get; at least one."""
    return endpoint.addresses or (AddressWish(),)
