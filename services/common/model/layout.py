"""The topology as carved: what topology stores as one document and every service reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from services.common.model.description import DERIVED
from services.common.model.names import GroupPath, NetworkName, Tenant, TopologyName
from services.common.model.network import Network, Prefix


@dataclass(frozen=True, slots=True)
class Group:
    """A prefix group with its prefixes. A group without children is a leaf, which takes nodes."""

    path: GroupPath = field(metadata=DERIVED)
    name: str
    assignment: Mapping[str, str] = field(default_factory=dict)
    """Its own labels only; those of its ancestors count too."""
    routing: str = ""
    weight: int = 1
    pinned_prefixes: Mapping[NetworkName, Prefix] = field(default_factory=dict)
    """Prefixes that the operator named, per network; empty: it has a slot."""
    slot: int = 0
    """Its first slot in the parent, from 0; it takes `weight` rounded up to a power of two."""
    slots: int = 1
    """How many slots its own prefix is divided into for its children."""
    prefixes: Mapping[NetworkName, Prefix] = field(default_factory=dict)
    groups: tuple[Group, ...] = ()

    def walk(self) -> Iterator[Group]:
        """This group and all below, parents before children, in file order."""
        yield self
        for group in self.groups:
            yield from group.walk()


@dataclass(frozen=True, slots=True)
class Topology:
    """A tree of groups over a set of networks."""

    name: TopologyName
    networks: tuple[NetworkName, ...]
    groups: tuple[Group, ...]
    slots: int = 1

    def walk(self) -> Iterator[Group]:
        """Every group, parents before children, in file order."""
        for group in self.groups:
            yield from group.walk()

    def leaves(self) -> Iterator[Group]:
        """The groups that take nodes, in file order."""
        return (group for group in self.walk() if not group.groups)


@dataclass(frozen=True, slots=True)
class Layout:
    """All networks and topologies, in file order."""

    networks: tuple[Network, ...] = ()
    topologies: tuple[Topology, ...] = ()

    def for_tenant(self, tenant: Tenant) -> Iterator[Network]:
        """The tenant's networks in the order they are tried: those that name it, then open ones."""
        yield from (network for network in self.networks if tenant in network.tenants)
        yield from (network for network in self.networks if not network.tenants)
