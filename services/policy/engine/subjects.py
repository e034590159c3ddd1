"""What selectors select: endpoints and nodes, as the engine keeps them. And their tenants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from services.common.model.names import NetworkName, NodeName, Tenant
from services.common.model.rules import Protocol
from services.policy.engine.addresses import NetworkMap, key_of
from services.policy.engine.index import NAME, NETWORK, SEGMENT, Fact
from services.policy.model import Endpoint, NamedPort, PolicyNode, TenantRecord

if TYPE_CHECKING:  # they know each other
    from services.policy.engine.records import RuleSetRecord
    from services.policy.engine.selections import Selection, TenantSelection
    from services.policy.engine.spans import Span


class Subject:
    """Something with addresses."""

    __slots__ = ("facts", "keys", "networks", "selections")

    def __init__(self) -> None:
        self.keys: tuple[int, ...] = ()
        self.networks: tuple[NetworkName | None, ...] = ()
        """Of each address."""
        self.facts: list[Fact] = []
        self.selections: set[Selection] = set()
        """All that select it, of those in use."""

    @property
    def ports(self) -> Sequence[NamedPort]:
        """Its names of ports."""
        return ()

    def numbers(self, protocol: Protocol | None, name: str) -> Sequence[int]:
        """Ports that it has under a name, in order."""
        ports = self.ports
        if not ports:
            return ()
        return sorted({one.port for one in ports if one.name == name and one.protocol is protocol})


class TenantEntry:
    """A tenant that something is known of, or that has endpoints."""

    __slots__ = ("endpoints", "name", "record", "selections")

    def __init__(self, name: Tenant) -> None:
        self.name = name
        self.record = TenantRecord(name)
        self.endpoints: set[EndpointEntry] = set()
        self.selections: set[TenantSelection] = set()


class EndpointEntry(Subject):
    """An endpoint."""

    __slots__ = ("endpoint", "sets", "span", "tenant")

    def __init__(self, endpoint: Endpoint, tenant: TenantEntry) -> None:
        super().__init__()
        self.endpoint = endpoint
        self.tenant = tenant
        self.sets: tuple[RuleSetRecord, ...] = ()
        """Rule sets that it has its node hold, both directions'."""
        self.span: Span | None = None
        """Of the node that holds them."""

    def read(self, endpoint: Endpoint, tenant: TenantEntry, networks: NetworkMap) -> None:
        """Takes over what is known of it."""
        self.endpoint, self.tenant = endpoint, tenant
        self.keys = tuple(dict.fromkeys(map(key_of, endpoint.addresses)))
        self.networks = tuple(map(networks.of, self.keys))
        self.facts = [*endpoint.labels.items(), (SEGMENT, endpoint.segment)]
        for network in set(self.networks):
            if network is not None:
                self.facts.append((NETWORK, network))

    @property
    def is_attached(self) -> bool:
        """Says whether a node has it."""
        return bool(self.keys) and self.endpoint.node is not None

    @property
    def ports(self) -> Sequence[NamedPort]:
        """Its names of ports."""
        return self.endpoint.ports


class NodeEntry(Subject):
    """A node that is known."""

    __slots__ = ("node", "sets")

    def __init__(self, node: PolicyNode) -> None:
        super().__init__()
        self.sets: tuple[RuleSetRecord, ...] = ()
        self.read(node)

    def read(self, node: PolicyNode) -> None:
        """Takes over what is known of it."""
        self.node = node
        self.keys = tuple(dict.fromkeys(map(key_of, node.addresses)))
        self.networks = (None,) * len(self.keys)
        self.facts = [*node.labels.items(), (NAME, node.name)]

    @property
    def name(self) -> NodeName:
        """Its name."""
        return self.node.name
