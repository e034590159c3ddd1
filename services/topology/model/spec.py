"""What is asked for, checked part by part, but not carved yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from services.common.model.names import GroupPath, NetworkName, TopologyName
from services.common.model.network import Network, Prefix
from services.common.model.node import Node


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """A prefix group."""

    path: GroupPath
    name: str
    at: str = ""
    """Its field path in what the caller sent."""
    assignment: Mapping[str, str] = field(default_factory=dict)
    routing: str = ""
    weight: int = 1
    prefixes: Mapping[NetworkName, Prefix] = field(default_factory=dict)
    """Those that it names; the others follow from its slot."""
    groups: tuple[GroupSpec, ...] = ()
    slots: int = 0
    """0: not said."""
    slot: int | None = None

    @property
    def width(self) -> int:
        """How many slots it takes: its weight rounded up to a power of two."""
        return power_of_two(self.weight)

    def walk(self) -> Iterator[GroupSpec]:
        """This group and all below, parents before children."""
        yield self
        for group in self.groups:
            yield from group.walk()


@dataclass(frozen=True, slots=True)
class TopologySpec:
    """A topology."""

    name: TopologyName
    networks: tuple[NetworkName, ...]
    groups: tuple[GroupSpec, ...]
    at: str = ""
    groups_at: str = ""
    slots: int = 0
    """0: not said."""

    def walk(self) -> Iterator[GroupSpec]:
        """Every group, parents before children."""
        for group in self.groups:
            yield from group.walk()


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """A node that is listed in a leaf, with its pins. Without an address, it must be known."""

    node: Node
    at: str = ""
    address_at: str = ""
    attachments_said: bool = False
    """If not, those that are known stay."""


@dataclass(frozen=True, slots=True)
class Spec:
    """All networks and topologies, and the nodes that they list."""

    networks: tuple[Network, ...] = ()
    topologies: tuple[TopologySpec, ...] = ()
    nodes: tuple[NodeSpec, ...] = ()


def power_of_two(number: int) -> int:
    """The smallest power of two that is not less; 1 for what is less than 1."""
    return 1 << max(0, number - 1).bit_length()


def is_power_of_two(number: int) -> bool:
    """Says whether it is 1, 2, 4, ..."""
    return number > 0 and number & (number - 1) == 0
