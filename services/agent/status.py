"""What the agent says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


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
