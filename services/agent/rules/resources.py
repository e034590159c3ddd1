"""What the agent is told of policies, one value per resource of the stream.

Most of it is what the policy service says, as it is: `services.common.model.rules`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from services.agent.model import WantedEndpoint
from services.common.model.devices import DeviceRules
from services.common.model.names import NetworkName
from services.common.model.network import Prefix
from services.common.model.rules import EndpointRules, GroupBlock, GroupPage, NodeRules, RuleSet


@dataclass(frozen=True, slots=True)
class NetworkRules:
    """What a network asks of a node."""

    name: NetworkName
    cidr: Prefix
    masquerade: bool = False


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A resource that this agent does not understand: it fails, the others are applied."""

    message: str


Resource: TypeAlias = (
    EndpointRules
    | NodeRules
    | RuleSet
    | GroupPage
    | GroupBlock
    | NetworkRules
    | DeviceRules
    | WantedEndpoint
    | Unreadable
)
