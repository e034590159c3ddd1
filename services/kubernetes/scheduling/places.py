"""Where nodes are: on which networks, and in which group of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.common.model.names import GroupPath, NetworkName, NodeName


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node is."""

    groups: Mapping[NetworkName, GroupPath]
    """By the networks that it is on."""
    unplaced: frozenset[NetworkName] = frozenset()
    """Networks of which its labels fit no group."""


@dataclass(frozen=True, slots=True)
class Places:
    """Of all nodes."""

    nodes: Mapping[NodeName, Place] = field(default_factory=dict)
