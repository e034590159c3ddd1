"""What the engine says: resources by topic, as values. `services.common.sync` carries them.

    networks              network/NAME                 PolicyNetwork
    node/NODE             endpoint/NAME, node/NODE     EndpointRules, NodeRules
    rules/ID              rules/ID                     RuleSet
    group/ID              page/ID/BASE                 GroupPage

A node follows `networks`, its own topic, and those of the rule sets and groups that these need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from services.common.model.names import EndpointName, NodeName
from services.common.model.network import Address
from services.common.model.rules import GroupId, Profile, RuleSet
from services.policy.model import PolicyNetwork

NETWORKS: Final = "networks"
"""Topic of all networks; every node follows it."""


@dataclass(frozen=True, slots=True)
class EndpointRules:
    """How an endpoint of a node is judged."""

    name: EndpointName
    addresses: tuple[Address, ...]
    profile: Profile


@dataclass(frozen=True, slots=True)
class NodeRules:
    """How a node itself is judged."""

    name: NodeName
    profile: Profile


@dataclass(frozen=True, slots=True)
class GroupPage:
    """Sixty-four consecutive addresses of a group."""

    group: GroupId
    base: int
    """First address; its lowest six bits are 0."""
    bits: int
    """Of an address: 32 or 128."""
    members: int
    """Bit n: base + n is a member. Never 0."""


Resource: TypeAlias = EndpointRules | NodeRules | RuleSet | GroupPage | PolicyNetwork


@dataclass(frozen=True, slots=True)
class Changes:
    """What topics hold now, as far as it may be different."""

    put: Sequence[tuple[str, str, Resource]]
    """Topic, id, value. No topic and id is in `put` and in `dropped`."""
    dropped: Sequence[tuple[str, str]]
    """Topic, id."""
    spans: Mapping[NodeName, frozenset[str] | None]
    """Topics of nodes; None: the node is not known any more."""


def node_topic(node: NodeName) -> str:
    """What is for one node only."""
    return f"node/{node}"
