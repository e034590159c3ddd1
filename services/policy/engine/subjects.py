"""What selectors select: endpoints and nodes, as the engine keeps them. And their tenants, with the
selectors over these."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol as Structural

from services.common.model.names import NetworkName, NodeName, Tenant
from services.common.model.rules import PolicyName, Protocol
from services.policy.engine.addresses import Holders, NetworkMap, key_of
from services.policy.engine.index import NAME, NETWORK, SEGMENT, Demand, Fact, label_demands
from services.policy.engine.selector import passes, tests
from services.policy.model import Endpoint, LabelSelector, NamedPort, PolicyNode, TenantRecord


class SelectorInUse(Structural):
    """What a subject knows of a selection that it is in; see `selections`."""

    policies: set[PolicyName]

    def leave(self, subject: Subject, holders: Holders[Subject], /) -> AbstractSet[PolicyName]:
        """Takes out a subject; returns the policies whose rules are others now."""
        ...


class Subject:
    """Something with addresses."""

    __slots__ = ("facts", "keys", "networks", "selections")

    def __init__(self) -> None:
        self.keys: tuple[int, ...] = ()
        self.networks: tuple[NetworkName | None, ...] = ()
        """Of each address."""
        self.facts: list[Fact] = []
        self.selections: set[SelectorInUse] = set()
        """All that select it, of those in use."""

    @property
    def ports(self) -> Sequence[NamedPort]:
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


class TenantSelection:
    """Tenants by their labels."""

    __slots__ = ("facts", "tenants", "tests", "uses")

    def __init__(self, selector: LabelSelector) -> None:
        self.tests = tests(selector)
        self.facts: tuple[Fact, ...] | None = None
        """Under which the index keeps it."""
        self.tenants: set[TenantEntry] = set()
        self.uses = 0
        """Selections that have it."""

    def demands(self) -> list[Demand]:
        return label_demands(self.tests)

    def selects(self, tenant: TenantEntry) -> bool:
        return passes(self.tests, tenant.record.labels)


class EndpointEntry(Subject):
    __slots__ = ("endpoint", "tenant")

    def __init__(self, endpoint: Endpoint, tenant: TenantEntry) -> None:
        super().__init__()
        self.endpoint = endpoint
        self.tenant = tenant

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
        return bool(self.keys) and self.endpoint.node is not None

    @property
    def ports(self) -> Sequence[NamedPort]:
        return self.endpoint.ports


class NodeEntry(Subject):
    """A node that is known."""

    __slots__ = ("node",)

    def __init__(self, node: PolicyNode) -> None:
        super().__init__()
        self.read(node)

    def read(self, node: PolicyNode) -> None:
        """Takes over what is known of it."""
        self.node = node
        self.keys = tuple(dict.fromkeys(map(key_of, node.addresses)))
        self.networks = (None,) * len(self.keys)
        self.facts = [*node.labels.items(), (NAME, node.name)]

    @property
    def name(self) -> NodeName:
        return self.node.name
