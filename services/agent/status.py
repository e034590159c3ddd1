"""What the agent says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, order=True)
class RuleCount:
    """What a rule of a policy has decided."""

    policy: str
    direction: str
    rule: str
    packets: int
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class PolicyStatus:
    """How policies are enforced."""

    connected: bool
    """There is a stream to policy."""
    epoch: str
    revision: int
    """What is applied."""
    open_endpoints: int
    rule_sets: int
    groups: int
    rules: tuple[RuleCount, ...]
    dropped: Mapping[str, int]
    """Packets by why."""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """The data plane's part of `romana agent status`."""

    connected: bool = False
    """There is a stream to ipam."""
    epoch: str = ""
    revision: int = 0
    """What is applied."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """Messages by resource id."""
    routes: int = 0
    repaired: int = 0
    policy: PolicyStatus | None = None
    """None: policies are not enforced."""
    warnings: tuple[str, ...] = ()
    """What others have set up here and may hinder endpoints."""


async def no_status() -> NodeStatus:
    """Of an agent without a data plane."""
    return NodeStatus()
