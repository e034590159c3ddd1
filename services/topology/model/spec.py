"""What is asked for, checked part by part, but not carved yet.

Together with `Network` and `Node` this is what a topology file and the messages of the API say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from services.common.model.description import DERIVED
from services.common.model.names import GroupPath, NetworkName, TopologyName
from services.common.model.network import Network, Prefix
from services.common.model.node import Node


@dataclass(frozen=True, slots=True)
class GroupSpec:
    name: str
    assignment: Mapping[str, str] = field(default_factory=dict)
    routing: str = ""
    weight: int = 1
    prefixes: Mapping[NetworkName, Prefix] = field(default_factory=dict)
    """Those that it names; the others follow from its slot."""
    slot: int | None = None
    slots: int = 0
    """0: not said."""
    groups: tuple[GroupSpec, ...] = ()
    path: GroupPath = field(default=GroupPath(""), metadata=DERIVED)
    at: str = field(default="", metadata=DERIVED)
    """Its field path in what the caller sent."""

    @property
    def width(self) -> int:
        """How many slots it takes: its weight rounded up to a power of two."""
        return power_of_two(self.weight)

    def walk(self) -> Iterator[GroupSpec]:
        yield self
        for group in self.groups:
            yield from group.walk()


@dataclass(frozen=True, slots=True)
class TopologySpec:
    name: TopologyName
    networks: tuple[NetworkName, ...]
    slots: int = 0
    """0: not said."""
    groups: tuple[GroupSpec, ...] = ()
    groups_at: str = field(default="", metadata=DERIVED)
    """The field path of its groups in what the caller sent."""

    def walk(self) -> Iterator[GroupSpec]:
        """Every group, parents before children."""
        for group in self.groups:
            yield from group.walk()


class EmptyAttachments(StrEnum):
    """What it means that a node has no attachments."""

    NOT_SAID = ""
    EVERY_NETWORK = "every_network"
    NO_NETWORK = "no_network"


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """A node as it was asked for."""

    node: Node
    address_at: str = ""
    """The field path of its address in what the caller sent."""
    said: frozenset[str] = frozenset()
    """The fields, but for name and pins, that were said. The others stay as they are known."""

    def over(self, known: Node) -> Node:
        """What is known of the node, with what was said instead."""
        said = {name: getattr(self.node, name) for name in self.said}
        return replace(known, **said, pins={**known.pins, **self.node.pins})


@dataclass(frozen=True, slots=True)
class Spec:
    networks: tuple[Network, ...] = ()
    topologies: tuple[TopologySpec, ...] = ()
    nodes: tuple[NodeSpec, ...] = ()


def power_of_two(number: int) -> int:
    """The smallest power of two that is not less; 1 for what is less than 1."""
    return 1 << max(0, number - 1).bit_length()


def is_power_of_two(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0
