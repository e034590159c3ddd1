"""What the engine says: resources by topic, as values. `services.common.sync` carries them.

    networks              network/NAME                 PolicyNetwork
                          device/GROUP                 DeviceRules
    node/NODE             endpoint/NAME, node/NODE     EndpointRules, NodeRules
                          wanted/NAME                  WantedEndpoint
    rules/ID              rules/ID                     RuleSet
    group/ID              page/ID/BASE, block/ID/CIDR  GroupPage, GroupBlock

A node follows `networks`, its own topic, and those of the rule sets and groups that these need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from services.common.model.devices import DeviceRules
from services.common.model.names import EndpointName, NodeName, Segment, Tenant
from services.common.model.rules import EndpointRules, GroupBlock, GroupPage, NodeRules, RuleSet
from services.policy.model import PolicyNetwork, WantedAttachment

NETWORKS: Final = "networks"
"""Topic of all networks, and of the devices on them; every node follows it."""


@dataclass(frozen=True, slots=True)
class WantedEndpoint:
    """An endpoint that an orchestrator wants on a node."""

    name: EndpointName
    tenant: Tenant
    segment: Segment
    labels: Mapping[str, str]
    attachment: WantedAttachment


Resource: TypeAlias = (
    EndpointRules
    | NodeRules
    | RuleSet
    | GroupPage
    | GroupBlock
    | PolicyNetwork
    | DeviceRules
    | WantedEndpoint
)


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
